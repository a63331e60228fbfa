"""PyTorch takes batches without a DataLoader and by one, forked and spawned, in ranks, and from states."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from asyncfetch import Batch, DecodePolicy, Failure, NetworkPolicy, Settings, Substitute, blocking
from asyncfetch.blocking.bridge import bridge
from asyncfetch.decode import call_of
from asyncfetch.decode.transforms import Function
from asyncfetch.errors import ObjectNotFound, PlanMismatch, UsageError
from asyncfetch.integrations.share import Share, divided
from asyncfetch.integrations.torch import ImageDataset, ImageLoader, Sample, TensorBatch, tensors
from asyncfetch.settings import MIB
from asyncfetch.testing import FaultServer, photographs
from tests.blocking.scripts import program
from tests.streams.orders import Anew

FORM: dict[str, Any] = {"size": (32, 24), "fit": "exact"}


@pytest.fixture(scope="module")
def fetcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[blocking.Fetcher]:
    with blocking.Fetcher(cache_dir=tmp_path_factory.mktemp("cache"), workers=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    directory = tmp_path_factory.mktemp("photographs")
    made = []
    for number, (name, body) in enumerate(photographs(10)):
        (directory / name).write_bytes(body)
        made.append((str(directory / name), number))
    return made


def labels(batches: Any) -> list[list[int]]:
    return [batch.labels.tolist() for batch in batches]


def test_batches_are_tensors_over_the_memory_that_was_decoded_into(
    fetcher: blocking.Fetcher, rows: list[tuple[str, int]]
) -> None:
    pixels = {image.index: image.pixels.copy() for image in fetcher.images(rows, **FORM)}
    loader = ImageLoader(ImageDataset(rows, batch_size=4, fetcher=fetcher, **FORM))
    assert len(loader) == 3
    seen = 0
    for batch in loader:
        assert isinstance(batch, TensorBatch)
        assert isinstance(batch.pixels, torch.Tensor)
        assert batch.pixels.dtype == torch.uint8
        assert batch.labels.tolist() == batch.indices.tolist() == list(range(seen, seen + len(batch.uris)))
        for index, found in zip(batch.indices.tolist(), batch.pixels, strict=True):
            assert np.array_equal(found.numpy(), pixels[index])
        seen += len(batch.uris)
    assert seen == 10
    array = np.zeros((1, 2, 2, 3), np.uint8)
    made = tensors(Batch([], [], array))
    assert isinstance(made.pixels, torch.Tensor)
    array[:] = 7
    assert int(made.pixels.max()) == 7, "nothing was copied"


def test_epochs_have_orders_of_their_own_and_a_state_is_gone_on_from_exactly(
    fetcher: blocking.Fetcher, rows: list[tuple[str, int]]
) -> None:
    def make(**options: Any) -> ImageLoader:
        return ImageLoader(ImageDataset(rows, batch_size=3, shuffle=True, seed=5, fetcher=fetcher, **FORM, **options))

    loader = make()
    epochs = [labels(loader) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert all(sorted(label for batch in epoch for label in batch) == list(range(10)) for epoch in epochs)
    loader.set_epoch(1)
    iterator = iter(loader)
    first = [next(iterator).labels.tolist() for _ in range(2)]
    state = json.loads(json.dumps(loader.state_dict()))
    del iterator
    assert loader.state_dict() == state, "after a break too"
    other = make()
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert first + labels(other) == epochs[1]
    assert labels(other) == epochs[2], "and the next epoch follows"
    assert other.state_dict() == {"epoch": 3, "stream": None}
    with pytest.raises(PlanMismatch):
        ImageLoader(ImageDataset(rows, batch_size=3, fetcher=fetcher, **FORM)).load_state_dict(state)
    with pytest.raises(UsageError, match="not the state"):
        other.load_state_dict({"low": 3})


def test_what_fails_is_told_by_its_name(fetcher: blocking.Fetcher, rows: list[tuple[str, int]]) -> None:
    broken: list[Any] = [*rows[:2], ("/no/such/photograph", 2), *rows[3:5]]

    def batches(**options: Any) -> list[Any]:
        return list(ImageDataset(broken, batch_size=5, fetcher=fetcher, **FORM, **options))

    with pytest.raises(ObjectNotFound, match="/no/such/photograph"):
        batches()
    assert labels(batches(on_error="skip")) == [[0, 1, 3, 4]]
    (batch,) = batches(on_error="yield")
    assert [one is None for one in batch.pixels] == [False, False, True, False, False]
    assert [failure.uri for failure in batch.failures] == ["/no/such/photograph"]
    (batch,) = batches(on_error=Substitute(lambda failure: None))
    assert batch.pixels.shape == (4, 24, 32, 3)
    singles = list(ImageDataset(broken, fetcher=fetcher, on_error="yield", **FORM))
    assert [type(one) for one in singles] == [Sample, Sample, Failure, Sample, Sample]
    assert list(ImageDataset(rows, batch_size=5, fetcher=fetcher, collate=_count, **FORM)) == [5, 5]
    with pytest.raises(UsageError, match="cannot be joined"):
        list(ImageDataset([(rows[0][0], object())], batch_size=1, fetcher=fetcher, **FORM))


def _count(batch: Any) -> int:
    return len(batch)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # of torchdata
@pytest.mark.timeout(120)  # a spawned worker imports PyTorch, and so there is one of them
@pytest.mark.parametrize(("how", "workers"), [("fork", 2), ("spawn", 1)])
def test_a_data_loader_gives_the_same_batches_in_the_same_order(
    fetcher: blocking.Fetcher, rows: list[tuple[str, int]], how: str, workers: int
) -> None:
    dataset = ImageDataset(rows, batch_size=4, shuffle=True, fetcher=fetcher, **FORM)
    alone = ImageLoader(dataset)
    expected = [labels(alone) for _ in range(3)]

    def loader(how: str) -> Any:
        return StatefulDataLoader(
            dataset, batch_size=None, num_workers=workers, multiprocessing_context=how, persistent_workers=True
        )

    dataset.set_epoch(0)
    first = loader("fork")
    assert len(first) == 3
    assert labels(first) == expected[0]
    dataset.set_epoch(1)
    iterator = iter(first)
    seen = [next(iterator).labels.tolist()]
    state = first.state_dict()
    del iterator, first
    again = loader(how)
    again.load_state_dict(state)
    dataset.set_epoch(0)
    assert seen + labels(again) == expected[1], "the epoch is the state's"
    dataset.set_epoch(2)
    assert labels(again) == expected[2], "and workers that persist hear of the next"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    objects = {f"{number}": body for number, (_, body) in enumerate(photographs(10))}
    with FaultServer(objects) as serving:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", serving.credentials.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", serving.credentials.secret_access_key)
        yield serving


def test_the_workers_of_a_data_loader_divide_the_host_and_are_one_job(server: FaultServer, tmp_path: Path) -> None:
    uris = [server.uri(f"{number}") for number in range(10)]
    with blocking.Fetcher(
        cache_dir=tmp_path, endpoint_url=server.endpoint_url, region="us-east-1", workers=2
    ) as fetcher:
        dataset = ImageDataset(uris, batch_size=5, collate=_decoders, fetcher=fetcher, **FORM)
        loader: Any = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
        assert len(list(fetcher.entries(uris[:9]))) == 9
        assert list(loader) == [1, 1]
        counts = [server.count(key=f"{number}") for number in range(10)]
        assert counts == [1] * 10, "what one of them has checked no other checks again"


def _decoders(batch: Any) -> int:
    """How many decode workers the process has that takes the batch."""
    return len(psutil.Process().children())


def test_what_is_left_out_is_made_up_for_by_the_worker_whose_it_was(
    fetcher: blocking.Fetcher, rows: list[tuple[str, int]]
) -> None:
    broken: list[Any] = [*rows[:2], ("/no/such/photograph", 2), *rows[3:9]]

    def batches(workers: int, on_error: Any) -> list[list[int]]:
        dataset = ImageDataset(broken, batch_size=2, on_error=on_error, fetcher=fetcher, **FORM)
        loader: Any = DataLoader(
            dataset, batch_size=None, num_workers=workers, multiprocessing_context="fork" if workers else None
        )
        return [batch.indices.tolist() for batch in loader]

    assert batches(0, "skip") == [[0, 1], [3, 4], [5, 6], [7, 8]]
    assert batches(2, "skip") == [[0, 1], [3, 6], [4, 5], [7], [8]]
    assert batches(2, "yield") == batches(0, "yield"), "where nothing is left out they are the same"


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
def test_errors_of_workers_reach_the_loop_with_their_name_and_no_worker_stays(
    fetcher: blocking.Fetcher, rows: list[tuple[str, int]]
) -> None:
    broken: list[Any] = [*rows, ("/no/such/photograph", 10)]
    dataset = ImageDataset(broken, batch_size=2, fetcher=fetcher, **FORM)
    loader: Any = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork", pin_memory=True)
    with pytest.raises(RuntimeError, match="/no/such/photograph"):
        list(loader)
    for batch in loader:
        assert batch.pixels.shape == (2, 24, 32, 3)
        break
    del loader
    assert multiprocessing.active_children() == []


def test_pinned_batches_are_page_locked_copies_of_all_that_is_in_them(
    fetcher: blocking.Fetcher, rows: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = ImageDataset(rows[:4], batch_size=4, fetcher=fetcher, **FORM)
    [plain] = ImageLoader(dataset)
    with pytest.warns(UserWarning, match="no CUDA device"):
        [batch] = ImageLoader(dataset, pin_memory=True)
    assert torch.equal(batch.pixels, plain.pixels)
    # Where there is no device, nothing can be page-locked: here it is only noted what is to be.
    locked: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        locked.append(tensor.clone())
        return locked[-1]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    [batch] = ImageLoader(dataset, pin_memory=True)
    assert [id(one) for one in (batch.pixels, batch.labels, batch.indices)] == [id(one) for one in locked]
    assert all(map(torch.equal, locked, [plain.pixels, plain.labels, plain.indices]))
    assert (type(batch), batch.uris, batch.failures) == (TensorBatch, plain.uris, [])
    locked.clear()
    nested = ImageDataset(rows[:1], batch_size=1, fetcher=fetcher, collate=_nested, **FORM)
    [found] = ImageLoader(nested, pin_memory=True)
    assert found["pair"][0] is locked[0]
    assert found["pair"][1:] == ["label"]


def _nested(batch: Any) -> dict[str, Any]:
    return {"pair": [torch.from_numpy(batch.pixels), "label"]}


def test_samples_are_batched_by_a_data_loader_too(fetcher: blocking.Fetcher, rows: list[tuple[str, int]]) -> None:
    loader: Any = DataLoader(ImageDataset(rows, fetcher=fetcher, **FORM), batch_size=5)
    assert [batch.pixels.shape for batch in loader] == [(5, 24, 32, 3)] * 2
    assert len(loader) == 2


def _rank(here: Connection, rank: int, rows: list[tuple[str, int]], directory: Path, *, group: bool) -> None:
    """One of two ranks, told so by the environment or by a process group."""
    if group:
        meeting = f"file://{directory / 'meeting'}"
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    else:
        os.environ.update(RANK=str(rank), WORLD_SIZE="2")
    with blocking.Fetcher(cache_dir=directory / "cache", workers=1) as fetcher:
        loader = ImageLoader(ImageDataset(rows, batch_size=2, shuffle=True, fetcher=fetcher, **FORM))
        here.send((len(loader), labels(loader)))
    if group:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("group", [False, True], ids=["environment", "process group"])
def test_ranks_have_equal_lengths_and_everything_between_them(
    rows: list[tuple[str, int]], tmp_path: Path, group: bool
) -> None:
    fork = multiprocessing.get_context("fork")  # PyTorch is there already: importing it takes seconds
    ends = [fork.Pipe(duplex=False) for _ in range(2)]
    ranks = [
        fork.Process(target=_rank, args=(there, rank, rows[:9], tmp_path), kwargs={"group": group})
        for rank, (_, there) in enumerate(ends)
    ]
    for process in ranks:
        process.start()
    said = [here.recv() for here, _ in ends]
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]
    assert [length for length, _ in said] == [3, 3]
    assert [len(batches) for _, batches in said] == [3, 3]
    seen = [label for _, batches in said for batch in batches for label in batch]
    assert len(seen) == 10, "one of nine twice"
    assert set(seen) == set(range(9))


def test_lengths_are_those_of_the_rank(fetcher: blocking.Fetcher, rows: list[tuple[str, int]]) -> None:
    def length(**options: Any) -> int:
        return len(ImageDataset(rows, fetcher=fetcher, **options))

    assert length() == 10
    assert length(rank=3, world_size=4) == 3
    assert length(rank=3, world_size=4, uneven="drop") == 2
    assert length(rank=3, world_size=4, uneven="keep") == 2
    assert length(batch_size=4) == 3
    assert length(batch_size=4, drop_last=True) == 2
    with pytest.raises(TypeError, match="Anew has no length"):
        len(ImageDataset(Anew(rows), fetcher=fetcher))


def test_the_states_of_all_ranks_are_divided_among_others(
    fetcher: blocking.Fetcher, rows: list[tuple[str, int]]
) -> None:
    def rank(index: int, count: int) -> ImageLoader:
        return ImageLoader(
            ImageDataset(
                rows, batch_size=2, shuffle=True, rank=index, world_size=count, uneven="keep", fetcher=fetcher, **FORM
            )
        )

    two = [rank(index, 2) for index in range(2)]
    seen = [label for loader in two for label in next(iter(loader)).labels.tolist()]
    states = [loader.state_dict() for loader in two]
    for index in range(3):
        loader = rank(index, 3)
        loader.load_state_dict(states)
        seen += [label for batch in loader for label in batch.labels.tolist()]
    assert sorted(seen) == list(range(10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": "s3://b/k"}, "not one text"),
        ({"sources": iter(["s3://b/k"])}, "read once"),
        ({"batch_size": 0}, "batch_size"),
        ({"rank": 1}, "world_size"),
        ({"rank": 2, "world_size": 2}, "no rank 2 of 2"),
        ({"size": (0, 1)}, "size"),
    ],
)
def test_wrong_use_is_refused_when_it_is_said(fetcher: blocking.Fetcher, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ImageDataset(**{"sources": ["s3://b/k"], "fetcher": fetcher, **options})


def test_half_a_rank_in_the_environment_is_refused(fetcher: blocking.Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UsageError, match="RANK and WORLD_SIZE"):
        len(ImageDataset(["s3://b/k"], fetcher=fetcher))


@pytest.mark.parametrize(
    ("local", "master", "parts"),
    [
        ("4", None, 12),
        ("4", "127.0.0.1", 12),
        (None, "127.0.0.1", 24),
        (None, "localhost", 24),
        (None, "::1", 24),
        (None, "10.0.0.7", 3),
        (None, "node-1", 3),
        (None, None, 3),
    ],
)
def test_ranks_of_a_host_divide_it_as_far_as_the_environment_tells_them(
    monkeypatch: pytest.MonkeyPatch, local: str | None, master: str | None, parts: int
) -> None:
    for name, value in (("LOCAL_WORLD_SIZE", local), ("MASTER_ADDR", master)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert Share(0, 8, 0, 3).parts == parts
    assert Share(0, 1, 0, 3).parts == 3, "who is alone divides with nobody"


@pytest.mark.parametrize("count", ["0", "-2", "two"])
def test_a_count_of_ranks_that_means_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", count)
    with pytest.raises(UsageError, match="LOCAL_WORLD_SIZE must be a whole number"):
        print(Share(0, 2, 0, 1).parts)


def test_workers_have_their_part_of_what_the_host_has_and_its_job(fetcher: blocking.Fetcher) -> None:
    settings = Settings(network=NetworkPolicy(concurrency=64), decode=DecodePolicy(workers=8), memory_budget=512 * MIB)
    part = divided(settings, 4)
    assert (part.network.concurrency, part.decode.worker_count, part.memory_budget) == (16, 2, 128 * MIB)
    part = divided(settings, 100)
    assert (part.network.concurrency, part.decode.worker_count, part.memory_budget) == (1, 1, 32 * MIB)
    assert Share(0, 1, 0, 3).parts == 3
    dataset = ImageDataset(["s3://b/k"], fetcher=fetcher)
    there = pickle.loads(pickle.dumps(dataset))
    assert there._fetcher.settings == fetcher.settings
    assert there._fetcher.settings.job is not None
    assert there.epoch == 0


def _interrupted(here: Connection, photograph: str, directory: Path) -> None:
    """A program whose Ctrl-C comes while a batch is waited for."""

    def hang(pixels: Any) -> Any:
        import os
        import signal
        import time

        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(100)

    own = blocking.Fetcher(cache_dir=directory / "cache")
    loader = ImageLoader(ImageDataset([photograph], batch_size=1, transform=hang, fetcher=own))
    try:
        here.send(next(iter(loader)))
    except KeyboardInterrupt:
        here.send(loader.state_dict()["stream"]["low"])
    del loader
    bridge().close()
    here.send(Path(f"/proc/self/task/{os.getpid()}/children").read_text())


def test_an_interrupt_leaves_nothing(rows: list[tuple[str, int]], tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=_interrupted, args=(there, rows[0][0], tmp_path))
    process.start()
    assert (here.recv(), here.recv()) == (0, "")
    process.join()
    assert process.exitcode == 0


def test_importing_the_package_does_not_load_torch(tmp_path: Path) -> None:
    code = "import sys, asyncfetch.blocking, asyncfetch.integrations; print('torch' in sys.modules)"
    assert program(code, tmp_path) == ["False"]


def test_a_function_that_draws_from_torchs_generator_replays() -> None:
    call = call_of(lambda _: torch.rand(3).tolist(), 7)  # what transforms of torchvision draw from
    function = Function(call.code, "the mapped function")
    first = [function((None,), call.seed, epoch, index) for epoch, index in ((0, 0), (0, 1), (1, 0))]
    again = [function((None,), call.seed, epoch, index) for epoch, index in ((1, 0), (0, 1), (0, 0))]
    assert first == again[::-1]
    assert len({tuple(numbers) for numbers in first}) == 3
