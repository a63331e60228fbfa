"""`asyncfetch cache export` and `import`, as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from tests.cli.kept import told
from tests.cli.terminal import COMMAND, asyncfetch, environment, on_a_terminal
from tests.leaks import temporary_files
from tests.objects import Bucket


def test_a_cache_goes_to_another_machine_through_a_file(cached: Bucket, tmp_path: Path) -> None:
    done = asyncfetch("cache", "export", tmp_path / "seed.tar", cached.uri("photos/"))
    assert (done.code, done.out) == (0, b"")
    assert "4 objects, 3 blobs" in done.err
    with tarfile.open(tmp_path / "seed.tar") as archive:
        assert [item.isreg() for item in archive] == [True] * 6
    elsewhere = ("--cache-dir", tmp_path / "elsewhere")
    (found,) = told("import", tmp_path / "seed.tar", *elsewhere)
    assert (found["objects"], found["new_objects"], found["blobs"], found["new_blobs"]) == (4, 4, 3, 3)
    (again,) = told("import", tmp_path / "seed.tar", *elsewhere)
    assert (again["objects"], again["new_objects"], again["new_blobs"], again["refused"]) == (4, 0, 0, 0)
    cached.server.reset_counts()
    fetched = json.loads(asyncfetch("prefetch", cached.uri("photos/"), "--json", *elsewhere).out)
    assert (fetched["objects"], fetched["downloaded"]) == (4, 0)
    assert cached.bodies() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "elsewhere", "seed.tar"]


def test_a_cache_goes_through_a_pipe(cached: Bucket, tmp_path: Path) -> None:
    archive = asyncfetch("cache", "export", "-", "-q").out
    done = asyncfetch("cache", "import", "-", "--cache-dir", tmp_path / "elsewhere", given=archive)
    assert (done.code, done.out) == (0, b"")
    assert "5 objects, 4 blobs (4 of them new)" in done.err
    assert told("verify", "--cache-dir", tmp_path / "elsewhere")[-1]["troubles"] == 0


def test_a_directory_to_be_read_from_a_medium_that_cannot_be_written(cached: Bucket, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    for new in (4, 0):
        (found,) = told("export", "--directory", closed, cached.uri("photos/"))
        assert (found["objects"], found["new_objects"], found["refused"]) == (4, new, 0)
        assert [path.suffix for path in (closed / "v1" / "index").iterdir() if "index-" in path.name] == [".sqlite"]
        assert list(closed.glob("v1/tmp/*")) == []
    read = (
        "import asyncio, sys, asyncfetch\n"
        "async def main():\n"
        "    policy = asyncfetch.CachePolicy(cache_dir=sys.argv[1], read_only=True, offline=True)\n"
        "    async with asyncfetch.Fetcher(cache=policy) as fetcher:\n"
        "        print(len(await fetcher.read_bytes(sys.argv[2])))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [*COMMAND[:3], "-c", read, str(closed), cached.uri("photos/2024/2.jpg")],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "3000\n"), done.stderr


def test_a_directory_cannot_be_exported_into_itself(cached: Bucket, cache_dir: Path) -> None:
    assert asyncfetch("cache", "export", "--directory", cache_dir).code == 2


def test_an_export_of_nothing_is_an_archive_too(cached: Bucket, tmp_path: Path) -> None:
    assert told("export", tmp_path / "seed.tar", "s3://none/")[-1]["objects"] == 0
    assert told("import", tmp_path / "seed.tar", "--cache-dir", tmp_path / "elsewhere")[-1]["refused"] == 0


def test_what_is_refused_is_named_and_ends_with_1(cached: Bucket, tmp_path: Path) -> None:
    archive = bytearray(asyncfetch("cache", "export", "-", "-q").out)
    at = archive.index(b"xxxx")
    archive[at] = ord("y")
    elsewhere = ("--cache-dir", tmp_path / "elsewhere")
    done = asyncfetch("cache", "import", "-", *elsewhere, given=bytes(archive))
    assert done.code == 1
    first = done.err.splitlines()[0]
    assert first.startswith("asyncfetch: blobs/blake3/")
    assert "holds other bytes" in first
    done = asyncfetch("cache", "import", "-", "--json", *elsewhere, given=bytes(archive))
    *refused, summary = [json.loads(line) for line in done.out.splitlines()]
    assert (done.code, done.err) == (1, "")
    assert refused[0]["name"].startswith("blobs/blake3/")
    assert summary["refused"] == len(refused)
    done = asyncfetch("cache", "import", "-", *elsewhere, given=bytes(archive[:2000]))
    assert done.code == 1
    assert "asyncfetch: the archive" in done.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["import", "/etc/hostname"], 2),
        (["import", "/no/such/file"], 1),
        (["import", "/tmp"], 1),
        (["export", "/no/such/directory/x.tar"], 1),
        (["export", "/tmp/x.tar", "/tmp/photos"], 2),
    ],
)
def test_what_goes_wrong_is_one_line(cache_dir: Path, arguments: list[str], code: int) -> None:
    done = asyncfetch("cache", *arguments, "--cache-dir", cache_dir)
    assert (done.code, done.err.count("\n"), done.out) == (code, 1, b"")


def test_a_tar_is_not_sent_to_a_terminal(cached: Bucket) -> None:
    assert "nothing for a terminal" in on_a_terminal("cache", "export", "-")


def test_an_export_whose_reader_has_gone_ends_as_others_do(cached: Bucket) -> None:
    cached.put("large", os.urandom(1 << 20))
    assert asyncfetch("prefetch", cached.uri("large"), "-q").code == 0
    with subprocess.Popen(
        [*COMMAND, "cache", "export", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 128 + signal.SIGPIPE


def test_an_import_that_is_interrupted_leaves_whole_blobs_alone(cached: Bucket, tmp_path: Path) -> None:
    archive = asyncfetch("cache", "export", "-", "-q").out
    elsewhere = tmp_path / "elsewhere"
    with subprocess.Popen(
        [*COMMAND, "cache", "import", "-", "--cache-dir", str(elsewhere)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=False,
        env=environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(archive[:4000])
        process.stdin.flush()
        while not temporary_files(elsewhere):  # not only the lock, which is there before the cache is open
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read().splitlines()[-1] == b"asyncfetch: interrupted"
    assert list(elsewhere.glob("v1/tmp/*")) == []
    assert told("verify", "--cache-dir", elsewhere)[-1]["troubles"] == 0


def test_an_import_beside_a_job_and_a_check(cached: Bucket, tmp_path: Path) -> None:
    archive = asyncfetch("cache", "export", "-", "-q").out
    elsewhere = ("--cache-dir", str(tmp_path / "elsewhere"))
    with subprocess.Popen([*COMMAND, "prefetch", cached.uri(), "-q", *elsewhere], env=environment()) as job:
        for _ in range(3):
            assert asyncfetch("cache", "import", "-", *elsewhere, given=archive).code == 0
        assert job.wait(30) == 0
    assert told("verify", *elsewhere)[-1]["troubles"] == 0
    assert told("stats", *elsewhere)[0]["objects"] == 5
