"""A row's process: what it says when it fails, and that nothing of it stays."""

from pathlib import Path

import psutil
import pytest

from bench import data, servers
from bench.process import RowFailedError, RowProcess
from bench.rows import Job


def job(tmp_path: Path, **changes: object) -> Job:
    data.make(tmp_path, "small", 1)
    values: dict[str, object] = {
        "workload": "small",
        "kind": "small",
        "count": 1,
        "made": 1,
        "root": str(tmp_path / "objects"),
        "endpoint": "http://127.0.0.1:9",  # the port of discard, where nobody listens
        "authority": None,
        "directory": str(tmp_path),
        "at_once": 1,
        "workers": 1,
    }
    return Job(**(values | changes))  # type: ignore[arg-type]


def test_a_row_that_cannot_open_says_why(tmp_path: Path) -> None:
    with RowProcess("floor", job(tmp_path), tmp_path / "none.pem") as process, pytest.raises(RowFailedError) as raised:
        process.answer()
    assert "Refused" in str(raised.value) or "refused" in str(raised.value)


def test_leaving_ends_the_row_and_all_that_it_started(tmp_path: Path) -> None:
    ready = job(tmp_path, workload="images-warm", kind="photos", count=1, workers=2)
    data.make(tmp_path, "photos", 1)
    before = set(psutil.Process().children(recursive=True))
    with RowProcess("decoding", ready, tmp_path / "none.pem") as process:
        assert process.answer() == {"ready": True}
        started = set(psutil.Process().children(recursive=True)) - before
        assert len(started) >= 3  # itself and two workers
        with pytest.raises(KeyError), process:
            raise KeyError
    _, alive = psutil.wait_procs(list(started), timeout=10)
    assert not alive


def test_a_row_takes_nothing_from_the_environment_of_its_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody-has-this-profile")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    authority = servers.certificate(tmp_path).authority
    with (
        RowProcess("aioboto3", job(tmp_path), authority) as process,
        pytest.raises(RowFailedError) as raised,
    ):
        process.answer()
    # Neither the profile nor the proxy: it came as far as the address it was given.
    assert "EndpointConnectionError" in str(raised.value)
    assert "127.0.0.1:9" in str(raised.value)
