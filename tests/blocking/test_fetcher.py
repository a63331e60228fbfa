"""The calls without an event loop do what the awaited ones do, from whatever thread or process."""

from __future__ import annotations

import inspect
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, get_overloads

import pytest

import asyncfetch
from asyncfetch import Failure, blocking
from asyncfetch.blocking.fetcher import Options
from asyncfetch.blocking.supply import ROOM
from asyncfetch.errors import FetcherClosed, ObjectNotFound, UsageError
from asyncfetch.testing import photographs
from tests.blocking.scripts import program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.objects import Bucket


@pytest.fixture
def fetcher(empty_bucket: Bucket, cache_dir: Path) -> Iterator[blocking.Fetcher]:
    with blocking.Fetcher(cache_dir=cache_dir, concurrency=8) as opened:
        yield opened


@pytest.fixture
def uris(empty_bucket: Bucket) -> list[str]:
    return [empty_bucket.put(f"k{number:02}", b"%d" % number) for number in range(12)]


def test_single_objects(fetcher: blocking.Fetcher, empty_bucket: Bucket) -> None:
    uri = empty_bucket.put("a", b"0123456789")
    entry = fetcher.fetch((uri, "label"))
    assert (entry.path.read_bytes(), entry.payload, entry.from_cache) == (b"0123456789", "label", False)
    assert fetcher.read_bytes(uri, 2, 5) == b"234"
    assert fetcher.stat(uri).size == 10
    assert fetcher.digest(entry) == entry.digest
    assert fetcher.stats().downloaded == 1
    with pytest.raises(ObjectNotFound, match="missing"):
        fetcher.fetch(empty_bucket.uri("missing"))


def test_many_objects(fetcher: blocking.Fetcher, empty_bucket: Bucket, uris: list[str]) -> None:
    assert [stat.uri for stat in fetcher.list(empty_bucket.uri())] == uris
    report = fetcher.prefetch(fetcher.list(empty_bucket.uri("k0")))
    assert (report.objects, report.downloaded) == (10, 10)
    seen = [
        (entry.index, entry.payload, entry.path.read_bytes())
        for entry in fetcher.entries(zip(uris, "abcdefghijkl", strict=True))
    ]
    assert seen == [(number, "abcdefghijkl"[number], b"%d" % number) for number in range(12)]
    mixed = [*uris[:2], empty_bucket.uri("missing"), *uris[2:4]]
    items = list(fetcher.entries(mixed, on_error="yield"))
    assert [type(item) is Failure for item in items] == [False, False, True, False, False]
    assert len(list(fetcher.entries(iter(mixed), on_error="skip", order="completion"))) == 4
    with pytest.raises(ObjectNotFound):
        list(fetcher.entries(mixed))


def test_images(fetcher: blocking.Fetcher, empty_bucket: Bucket) -> None:
    _, photograph = next(photographs(1))
    uris = [empty_bucket.put(key, photograph) for key in ("a.jpg", "b.jpg")]
    images = list(fetcher.images(uris, color="gray", max_size=64))
    assert [image.uri for image in images] == uris
    assert all(max(image.pixels.shape) == 64 for image in images)
    assert fetcher.image(uris[0]).pixels.shape[2] == 3


def test_a_listing_of_several_pages_comes_whole(fetcher: blocking.Fetcher, tmp_path: Path) -> None:
    for number in range(2001):
        (tmp_path / "many").mkdir(exist_ok=True)
        (tmp_path / "many" / f"{number:04}").touch()
    names = [stat.uri[-4:] for stat in fetcher.list(f"{tmp_path}/many/")]
    assert names == [f"{number:04}" for number in range(2001)]


def test_a_generator_is_read_by_the_thread_that_takes_the_items_and_may_call_again(
    fetcher: blocking.Fetcher, uris: list[str]
) -> None:
    threads = set()

    def chosen() -> Iterator[str]:
        for uri in uris:
            threads.add(threading.get_ident())
            if fetcher.read_bytes(uri) != b"3":
                yield uri

    assert [entry.uri for entry in fetcher.entries(chosen())] == [*uris[:3], *uris[4:]]
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("count", [0, 1, ROOM - 1, ROOM, ROOM + 1, 3 * ROOM])
def test_sources_of_any_number_that_all_fail_come_to_an_end(
    fetcher: blocking.Fetcher, tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncfetch.bell.PULSE", 1000.0)  # each wait is ended by what it waits for
    missing = (f"{tmp_path}/{number}" for number in range(count))
    assert list(fetcher.entries(missing, on_error="skip", look_ahead=5)) == []
    missing = (f"{tmp_path}/{number}" for number in range(count))
    assert fetcher.prefetch(missing).failed == count


def test_what_a_generator_raises_comes_behind_what_it_gave(fetcher: blocking.Fetcher, uris: list[str]) -> None:
    def broken() -> Iterator[str]:
        yield from uris[:2]
        raise LookupError("the file ends here")

    entries = fetcher.entries(broken())
    assert [next(entries).uri, next(entries).uri] == uris[:2]
    with pytest.raises(LookupError, match="ends here"):
        next(entries)


def test_an_endless_generator_is_not_read_far_ahead(fetcher: blocking.Fetcher, uris: list[str]) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield uris[read % 12]

    entries = fetcher.entries(endless(), look_ahead=10)
    next(entries)
    entries.close()
    assert read <= 2 * ROOM + 10


def gone(path: Path) -> bool:
    """Waits until the cache's thread has come to remove something."""
    for _ in range(1000):
        if not path.exists():
            return True
        threading.Event().wait(0.01)
    return False


def test_leaving_early_ends_the_work(fetcher: blocking.Fetcher, uris: list[str]) -> None:
    for left in ([uris, uris], [iter(uris), iter(uris)]):
        entries = fetcher.entries(left[0], cache=False)
        path = next(entries).path
        assert path.exists()
        entries.close()
        assert gone(path)
        for entry in fetcher.entries(left[1], cache=False):
            path = entry.path
            break
        assert gone(path), "and so does dropping it"


def test_an_interrupt_in_a_generator_ends_the_work_though_its_traceback_is_kept(
    fetcher: blocking.Fetcher, uris: list[str]
) -> None:
    path = None

    def interrupted() -> Iterator[str]:
        while path is None:
            yield uris[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        for entry in fetcher.entries(interrupted(), cache=False):
            path = entry.path
    assert path is not None
    assert gone(path)
    assert raised.tb is not None


def test_threads_share_a_fetcher(fetcher: blocking.Fetcher, empty_bucket: Bucket, uris: list[str]) -> None:
    def read(number: int) -> list[bytes]:
        return [entry.path.read_bytes() for entry in fetcher.entries(iter(uris[number:]))]

    with ThreadPoolExecutor(6) as pool:
        for number, bodies in enumerate(pool.map(read, range(6))):
            assert bodies == [b"%d" % one for one in range(number, 12)]
    assert empty_bucket.bodies() == 12, "and its transfers"


async def test_inside_a_running_loop(fetcher: blocking.Fetcher, uris: list[str]) -> None:
    assert [entry.uri for entry in fetcher.entries(uris)] == uris


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda fetcher: fetcher.entries("s3://b/k"), "not one text"),
        (lambda fetcher: fetcher.entries(7), "not int"),
        (lambda fetcher: fetcher.entries(asyncfetch.Location("s3", "b", "k")), "not one Location"),
        (lambda fetcher: fetcher.images(["x"], fit="fill"), "size="),
        (lambda fetcher: fetcher.images(["x"], order="any"), "order"),
        (lambda fetcher: fetcher.list("x", parallel=0), "parallel"),
        (lambda fetcher: fetcher.prefetch("s3://b/k"), "not one text"),
    ],
)
def test_wrong_use_is_refused_at_the_call(fetcher: blocking.Fetcher, call: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call(fetcher)


def test_a_closed_fetcher_refuses_and_ends_its_generators(cache_dir: Path, uris: list[str]) -> None:
    with blocking.Fetcher(cache_dir=cache_dir, ephemeral=True) as fetcher:
        entries = fetcher.entries(uris)
        next(entries)
    with pytest.raises(FetcherClosed):
        list(entries)
    with pytest.raises(FetcherClosed):
        fetcher.fetch(uris[0])
    assert list(cache_dir.iterdir()) == []
    fetcher.close()
    with pytest.raises(UsageError, match="opened once"):
        fetcher.open()


def test_a_fetcher_that_was_dropped_is_closed(cache_dir: Path, uris: list[str]) -> None:
    fetcher = blocking.Fetcher(cache_dir=cache_dir, ephemeral=True)
    entries = fetcher.entries(uris)
    fetcher.open()
    (ephemeral,) = cache_dir.iterdir()
    del fetcher
    assert len(list(entries)) == 12, "it lives as long as its stream"
    del entries
    assert gone(ephemeral)


def test_one_that_could_not_open_is_asked_anew(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    (tmp_path / "file").write_bytes(b"1")
    fetcher = blocking.Fetcher(cache_dir=tmp_path / "cache")
    with pytest.raises(asyncfetch.errors.CacheUnusable):
        fetcher.fetch(tmp_path / "file")
    (tmp_path / "cache").unlink()
    assert fetcher.fetch(tmp_path / "file").size == 1
    fetcher.close()


def test_a_pickled_fetcher_belongs_to_the_same_job(cache_dir: Path, empty_bucket: Bucket, uris: list[str]) -> None:
    with blocking.Fetcher(cache_dir=cache_dir) as fetcher:
        fetcher.prefetch(uris)
        empty_bucket.server.reset_counts()
        with pickle.loads(pickle.dumps(fetcher)) as other:
            assert other.prefetch(uris).hit_rate == 1
        assert empty_bucket.requests() == 0


def parameters(function: object) -> dict[str, inspect.Parameter]:
    return {name: one.replace(annotation=None) for name, one in inspect.signature(function).parameters.items()}  # type: ignore[arg-type]


def test_the_options_are_those_of_the_asynchronous_fetcher() -> None:
    assert {*Options.__annotations__} == {*parameters(asyncfetch.Fetcher)} - {"settings"}
    for name in ("fetch", "image", "read_bytes", "stat", "digest", "stats", "list", "prefetch"):
        assert parameters(getattr(blocking.Fetcher, name)) == parameters(getattr(asyncfetch.Fetcher, name)), name
    for name in ("entries", "bytes", "images"):
        overloads = [
            [parameters(one) for one in get_overloads(getattr(kind, name))]
            for kind in (blocking.Fetcher, asyncfetch.Fetcher)
        ]
        assert overloads[0] == overloads[1] != []


SHARED = """
import os, sys, threading, warnings
from asyncfetch import blocking

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
uris = sys.argv[1:] or os.environ["URIS"].split()
entries = blocking.entries(uris)
print(next(entries).from_cache, flush=True)
child = os.fork()
if not child:
    try:
        next(entries)
    except Exception as error:
        print(type(error).__name__, flush=True)
    del entries
    print([entry.from_cache for entry in blocking.entries(uris)], flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(len(list(entries)))
"""


def test_after_a_fork_the_shared_fetcher_opens_anew_and_old_generators_refuse(
    empty_bucket: Bucket, uris: list[str], cache_dir: Path, tmp_path: Path
) -> None:
    with blocking.Fetcher(cache_dir=cache_dir) as fetcher:
        fetcher.prefetch(uris[1:])
    said = program(SHARED, tmp_path, URIS=" ".join(uris[:2]), ASYNCFETCH_CACHE_DIR=str(cache_dir))
    assert said[:2] == ["False", "ForeignUse"]
    assert said[2:] == ["[True, True]", "1"]


WORKERS = """
import multiprocessing, os, warnings
from asyncfetch import blocking

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads

def work(fetcher, uris):
    print(*[entry.path.read_text() for entry in fetcher.entries(uris)], flush=True)

if __name__ == "__main__":
    with blocking.Fetcher(cache_dir="cache", ephemeral=True) as fetcher:
        uris = os.environ["URIS"].split()
        fetcher.prefetch(uris)
        process = multiprocessing.get_context("fork").Process(target=work, args=(fetcher, uris))
        process.start()
        process.join()
        print(process.exitcode, len(os.listdir("cache")))
    print(os.listdir("cache"))
"""


def test_a_worker_of_multiprocessing_uses_what_its_parent_opened_and_closes_its_own(
    uris: list[str], tmp_path: Path
) -> None:
    said = program(WORKERS, tmp_path, URIS=" ".join(uris[:3]))
    assert said == ["0 1 2", "0 1", "[]"]


def test_importing_the_package_does_not_load_this_room(tmp_path: Path) -> None:
    code = "import asyncfetch, sys; print('asyncfetch.blocking' in sys.modules, asyncfetch.blocking.__name__)"
    assert program(code, tmp_path) == ["False asyncfetch.blocking"]
    code = "import asyncfetch.blocking, sys; print({'numpy', 'cv2', 'uvloop', 'botocore'} & set(sys.modules))"
    assert program(code, tmp_path) == ["set()"]
    with pytest.raises(AttributeError, match="no attribute 'blockings'"):
        asyncfetch.blockings  # type: ignore[attr-defined]  # noqa: B018 - the type checker knows it too
