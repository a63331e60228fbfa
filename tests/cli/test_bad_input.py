"""`asyncfetch download` and `prefetch`, given what goes wrong in life: a line each, an exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncfetch.cache import seal
from asyncfetch.testing import Credentials, Fault, Faults, FaultServer
from tests.cli.terminal import COMMAND, Done, asyncfetch, environment

# No pictures by their names: of those the report would show some, for which each run would start a decode worker.
BODIES = {f"photos/{index:03}.dat": f"body {index}".encode() * 50 for index in range(12)}
USER = Credentials("user", "users-secret")


@pytest.fixture(scope="module")
def shared() -> Iterator[FaultServer]:
    with FaultServer(dict(BODIES), credentials=USER) as server:
        yield server


@pytest.fixture
def server(shared: FaultServer, monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> Iterator[FaultServer]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", USER.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", USER.secret_access_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("ASYNCFETCH_ENDPOINT_URL", shared.endpoint_url)
    monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", str(cache_dir))
    yield shared
    shared.faults = Faults()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def complaints(done: Done) -> list[str]:
    return [line for line in done.err.splitlines() if line.startswith("asyncfetch: ")]


# Root goes past the bits of a mode, unless the capability to do so is taken from it (linux/capability.h).
_WITHOUT = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
os.execv(sys.argv[1], sys.argv[1:])
"""


def without_privileges(*arguments: object) -> Done:
    """Runs the command as one whom the mode of a directory can keep out."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, *COMMAND, *map(str, arguments)],
        env=environment(),
        capture_output=True,
        timeout=50,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())


def there(out: Path) -> int:
    return len(list(out.rglob("*.dat")))


@pytest.mark.parametrize(
    "rows",
    [
        b'\xef\xbb\xbf"image",label\r\n\r\n"001.png",x\r\n,\r\n002.png,"two\r\nlines"\r\n001.png,y\r\n',
        b"label;image\nx;001.png\n\ny;002.png\nz;001.png\n",
        b'label;image\r\n"a;b";001.png\r\ny;"002.png"\r\nz;001.png\r\n',
        "image\tlabel\n001.png\tä\n002.png\t\n001.png\t\n".encode("utf-16"),
    ],
    ids=["mark-quotes-empty-rows", "semicolons", "quoted-semicolons", "utf-16"],
)
def test_lists_as_spreadsheets_write_them(server: FaultServer, out: Path, tmp_path: Path, rows: bytes) -> None:
    path = tmp_path / ("names.tsv" if b"\t" in rows else "names.csv")
    path.write_bytes(rows)
    done = asyncfetch("download", "--from", path, "--prefix", server.uri("photos/"), "--match", "stem", "-o", out, "-y")
    assert done.code == 0, done.err
    assert sorted(path.name for path in out.rglob("*.dat")) == ["001.dat", "002.dat"]
    assert "duplicates               1" in done.err


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (b"image,label\n001.png,1\n", "has no column 'file'. It has image, label"),
        (b"image;label\n001.png;1\n", "has no column 'file'. It has image, label"),
        (b'file\n001.png\n"002.png\n003.png\n', "the row that begins in line 3 is none: its quote is not closed"),
        (b'file\n"001.png"x\n', "the row that begins in line 2 is none"),
        ("file\nä.png\n".encode("latin-1"), "line 2 there is what is not utf-8. Say which encoding"),
        ("file\n1.png\n".encode("utf-16-le"), "is no text. If it is UTF-16"),
        (b"", "names.csv names nothing"),
        (b"file\n", "names.csv names nothing"),
        (b"\x1f\x8b\x08\0garbage", "is cut off or damaged"),
    ],
)
def test_lists_that_cannot_be_read_are_one_line(
    server: FaultServer, out: Path, tmp_path: Path, rows: bytes, words: str
) -> None:
    path = tmp_path / "names.csv"
    path.write_bytes(rows)
    for command in (["download", "-o", str(out), "-y"], ["prefetch"]):
        done = asyncfetch(*command, "--from", path, "--column", "file", "--prefix", server.uri("photos/"))
        assert (done.code, len(complaints(done))) == (2, 1), done.err
        assert words in complaints(done)[0]
    assert there(out) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--from", "{tmp}/nothing.csv"], 1, "asyncfetch: {tmp}/nothing.csv: No such file or directory"),
        (["--from", "{tmp}"], 2, "asyncfetch: {tmp} is a directory, not a list of names."),
        (["{uri}nothing/"], 2, "asyncfetch: Nothing is to be fetched: {uri}nothing/ has no objects."),
        (["{tmp}/nothing"], 2, "A prefix in a bucket begins with s3://."),
        (["s3://no-such-bucket/a/"], 1, "asyncfetch: s3://no-such-bucket/a/: there is no such bucket"),
    ],
)
@pytest.mark.parametrize("command", ["download", "prefetch"])
def test_what_is_not_there_is_one_line(
    server: FaultServer, out: Path, tmp_path: Path, command: str, arguments: list[str], code: int, line: str
) -> None:
    said = [argument.format(tmp=tmp_path, uri=server.uri()) for argument in arguments]
    done = asyncfetch(command, *said, *(["-o", str(out), "-y"] if command == "download" else []))
    assert (done.code, len(complaints(done))) == (code, 1), done.err
    assert line.format(tmp=tmp_path, uri=server.uri()) in complaints(done)[0]


def test_names_with_spaces_around_are_shown_so_that_one_sees_them(server: FaultServer, out: Path) -> None:
    arguments = ("--from", "-", "--prefix", server.uri("photos/"), "-o", out, "-y")
    done = asyncfetch("download", *arguments, given=b" 001.dat\n002.dat\n")
    assert (done.code, there(out)) == (1, 1)
    assert "missing                  1  ' 001.dat'" in done.err


def test_names_that_are_not_utf_8_are_names_too(out: Path, tmp_path: Path, cache_dir: Path) -> None:
    kept = {b"caf\xe9.dat": b"one", b"caf\xe8.dat": b"two", "Café.dat".encode(): b"three", b"plain.dat": b"four"}
    top = os.fsencode(tmp_path / "in")
    os.mkdir(top)
    for name, body in kept.items():
        with open(os.path.join(top, name), "wb") as file:
            file.write(body)
    asked = ("download", tmp_path / "in", "-o", out, "-y", "--json", "--cache-dir", cache_dir)
    for done, files in ((0, 4), (4, 0)):
        run = asyncfetch(*asked)
        assert run.code == 0, run.err
        lines = [json.loads(line) for line in run.out.splitlines()]
        assert (lines[0]["done"], lines[-1]["files"]) == (done, files)
    for name, body in kept.items():
        with open(os.path.join(os.fsencode(out), name), "rb") as file:
            assert file.read() == body
    run = asyncfetch(
        "download", "--prefix", tmp_path / "in", "--match", "stem", "--from", "-", *asked[2:], given=b"caf\xe9\n"
    )
    assert (run.code, json.loads(run.out.splitlines()[0])["done"]) == (0, 1), run.err


@pytest.mark.parametrize(
    ("taken", "wanted", "named"),
    [
        ("out", "out", "{out}: a file lies where a directory has to be."),
        ("out/.asyncfetch", "out", "{out}/.asyncfetch: a file lies where a directory has to be."),
        ("out/logs", "out", "{out}/logs: a file lies where a directory has to be."),
        ("out", "out/below", "{out}/below: a file lies where a directory has to be ({out})."),
    ],
)
def test_a_file_where_the_job_needs_a_directory_is_named(
    server: FaultServer, tmp_path: Path, taken: str, wanted: str, named: str
) -> None:
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).write_text("x")
    done = asyncfetch("download", server.uri(), "-o", tmp_path / wanted, "-y")
    complaint = f"asyncfetch: {named.format(out=tmp_path / 'out')} Move it away, or name another place."
    assert (done.code, complaints(done)) == (1, [complaint])


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("file/below", "{output}: a file lies where a directory has to be ({tmp}/file). Move it away, or name another"),
        ("not/there", "{output}: No such file or directory"),
        ("kept/file", "{output}: Permission denied. See that this user may read and write it, or name another."),
        ("full", "{output}: No space left on device. Free space there, or name another place."),
    ],
)
@pytest.mark.parametrize("command", ["get", "export"])
def test_an_output_that_cannot_be_written_is_named_as_it_was_typed(
    server: FaultServer, tmp_path: Path, command: str, output: str, said: str
) -> None:
    (tmp_path / "cache/v1").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    (tmp_path / "kept").mkdir(mode=0o555)
    (tmp_path / "full").symlink_to("/dev/full")
    place = tmp_path / output
    asked = ("get", server.uri(next(iter(BODIES))), "-o", place) if command == "get" else ("cache", "export", place)
    done = without_privileges(*asked) if output == "kept/file" else asyncfetch(*asked)
    (complaint,) = complaints(done)
    assert done.code == 1
    assert complaint.startswith("asyncfetch: " + said.format(output=place, tmp=tmp_path))


def test_get_prints_no_path_of_what_a_cache_that_is_only_read_did_not_keep(server: FaultServer, tmp_path: Path) -> None:
    there, other = list(BODIES)[:2]
    cache = tmp_path / "sealed"
    assert asyncfetch("get", server.uri(there), "--cache-dir", cache).code == 0
    seal(cache)
    directories = [cache, *(path for path in cache.rglob("*") if path.is_dir())]
    for path in directories:
        path.chmod(0o555)
    hit, miss = (without_privileges("get", server.uri(key), "--cache-dir", cache) for key in (there, other))
    saved = without_privileges("get", server.uri(other), "--cache-dir", cache, "-o", tmp_path / "here")
    for path in directories:
        path.chmod(0o755)
    assert Path(hit.out.decode().rstrip("\n")).read_bytes() == BODIES[there]
    assert (miss.code, miss.out) == (1, b"")
    assert complaints(miss)[-1].startswith(f"asyncfetch: {server.uri(other)} was fetched, and not kept")
    assert (saved.code, (tmp_path / "here").read_bytes()) == (0, BODIES[other])


def test_a_cache_that_is_only_read_is_listed_and_counted(server: FaultServer, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert asyncfetch("prefetch", server.uri(), "--cache-dir", cache).code == 0
    assert asyncfetch("cache", "pin", server.uri("photos/"), "--cache-dir", cache).code == 0
    looks = [
        ("cache", *look, "--json", "--cache-dir", cache)
        for look in (("ls",), ("stats", "--by", "prefix"), ("ls", "--quarantined"), ("pins",))
    ]
    before = [asyncfetch(*look) for look in looks]
    assert before[0].out.count(b"\n") == len(BODIES)
    seal(cache)
    directories = [cache, *(path for path in cache.rglob("*") if path.is_dir())]
    for path in directories:
        path.chmod(0o555)
    after = [without_privileges(*look) for look in looks]
    refused = without_privileges("cache", "rm", server.uri("photos/"), "--cache-dir", cache)
    for path in directories:
        path.chmod(0o755)
    assert after == before
    assert {done.code for done in after} == {0}
    (complaint,) = complaints(refused)
    assert "the cache can only be read, and this command may write it" in complaint


def test_an_output_that_is_read_only_is_one_line_and_loses_nothing(server: FaultServer, out: Path) -> None:
    asked = ("download", server.uri(), "-o", out, "-y", "--json")
    kept = "Permission denied. See that this user may read and write it, or name another."
    out.mkdir(mode=0o555)
    done = without_privileges(*asked)
    assert (done.code, complaints(done)) == (1, [f"asyncfetch: {out / '.asyncfetch'}: {kept}"])
    out.chmod(0o755)
    assert asyncfetch(*asked).code == 0
    for path in (out, out / ".asyncfetch", out / ".asyncfetch" / "lock", out / "ledger.jsonl"):
        path.chmod(path.stat().st_mode & 0o555)
    done = without_privileges(*asked)
    assert done.code == 1
    (complaint,) = complaints(done)
    assert complaint.startswith(f"asyncfetch: {out}")
    assert complaint.endswith(kept)
    out.chmod(0o755)
    for path in (out / ".asyncfetch", out / ".asyncfetch" / "lock", out / "ledger.jsonl"):
        path.chmod(0o755)
    assert json.loads(asyncfetch(*asked).out.splitlines()[0])["done"] == len(BODIES)


def test_a_folder_in_it_that_is_read_only_costs_its_files_alone(server: FaultServer, out: Path) -> None:
    (out / "photos").mkdir(parents=True)
    (out / "photos").chmod(0o555)
    done = without_privileges("download", server.uri(), "-o", out, "-y", "--json")
    end = json.loads(done.out.splitlines()[-1])
    assert (done.code, end["failed"], end["left"]) == (1, len(BODIES), 0), done.err
    (out / "photos").chmod(0o755)
    assert asyncfetch("download", server.uri(), "-o", out, "-y", "--retry-failed").code == 0
    assert there(out) == len(BODIES)


def test_an_output_on_another_file_system_than_the_cache_gets_copies(server: FaultServer, cache_dir: Path) -> None:
    homes = [Path("/dev/shm"), Path(tempfile.gettempdir()), Path.cwd(), Path.home()]
    here = cache_dir.parent.stat().st_dev
    other = next(home for home in homes if home.is_dir() and home.stat().st_dev != here)
    with tempfile.TemporaryDirectory(dir=other) as name:
        out = Path(name) / "out"
        assert asyncfetch("download", server.uri(), "-o", out, "-y").code == 0
        for key, body in BODIES.items():
            found = (out / key).stat()
            assert (out / key).read_bytes() == body
            assert (found.st_nlink, found.st_mode & 0o200) == (1, 0o200), "it is nobody else's, and may be written"
        linked = Path(name) / "linked"
        done = asyncfetch("download", server.uri(), "-o", linked, "-y", "--place", "link", "--json")
        failed = [json.loads(line) for line in done.out.splitlines()][1]
        assert (done.code, failed["event"]) == (1, "failed")
        assert "cannot be linked from the cache" in failed["message"]


@pytest.mark.parametrize("taken", ["ledger.jsonl", "failures.jsonl"])
def test_a_directory_where_the_job_needs_a_file_is_named(server: FaultServer, out: Path, taken: str) -> None:
    (out / taken).mkdir(parents=True)
    done = asyncfetch("download", server.uri(), "-o", out, "-y")
    assert (done.code, complaints(done)) == (1, [f"asyncfetch: {out / taken}: Is a directory. Name a file."])


def test_a_full_disk_under_the_ledger_is_named(server: FaultServer, out: Path) -> None:
    out.mkdir()
    (out / "ledger.jsonl").symlink_to("/dev/full")
    done = asyncfetch("download", server.uri(), "-o", out, "-y")
    full = f"asyncfetch: {out / 'ledger.jsonl'}: No space left on device. Free space there, or name another place."
    assert (done.code, complaints(done)) == (1, [full])


def test_a_disk_too_full_to_keep_a_failure_stops_it_and_it_is_none(server: FaultServer, out: Path) -> None:
    out.mkdir()
    (out / "failures.jsonl").symlink_to("/dev/full")
    names = [server.uri(key) for key in ("not-there", *BODIES)]
    done = asyncfetch("download", *names, "-o", out, "-y", "--json")
    end = json.loads(done.out.splitlines()[-1])
    assert (done.code, end["failed"]) == (3, 0), done.err
    assert "No space left on device. Free space there" in end["stopped"]
    (out / "failures.jsonl").unlink()
    assert asyncfetch("download", *names, "-o", out, "-y").code == 1
    assert there(out) == len(BODIES)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda kept: b"hello\n", 2, "is not the ledger of a download. Choose another directory."),
        (lambda kept: kept.replace(b'"version":1', b'"version":9', 1), 2, "a ledger of version 9, and this asyncfetch"),
        (lambda kept: kept.replace(b'"flatten":false', b'"flatten":true', 1), 2, "by another job (--flatten)"),
        (lambda kept: kept[:500] + b"\xff\0\n" + kept[500:], 0, "the ledger has 2 damaged lines"),
    ],
    ids=["foreign", "of-a-later-version", "of-another-layout", "damaged"],
)
def test_ledgers_that_are_not_as_they_were(
    server: FaultServer, out: Path, change: object, code: int, words: str
) -> None:
    assert callable(change)
    assert asyncfetch("download", server.uri(), "-o", out, "-y").code == 0
    kept = (out / "ledger.jsonl").read_bytes()
    (out / "ledger.jsonl").write_bytes(change(kept))
    done = asyncfetch("download", server.uri(), "-o", out, "-y")
    assert (done.code, len(complaints(done))) == (code, 1), done.err
    assert words in complaints(done)[0]
    assert {path.name: path.read_bytes() for path in (out / "photos").iterdir()} == {
        key.removeprefix("photos/"): body for key, body in BODIES.items()
    }


def test_expired_credentials_stop_a_prefetch_and_are_nobodys_failure(server: FaultServer) -> None:
    server.faults = Faults(at={(key, turn): Fault.EXPIRE_TOKEN for key in BODIES for turn in range(1, 100)})
    done = asyncfetch("prefetch", server.uri(), "--json")
    told = json.loads(done.out)
    assert (done.code, told["failed"]) == (3, 0)
    assert "aws sso login" in told["stopped"]
    assert len(complaints(done)) == 1
    server.faults = Faults()
    assert asyncfetch("prefetch", server.uri(), "--quiet").code == 0


@pytest.mark.parametrize("arguments", [["--fail-fast"], ["--max-failures", "2"], ["--max-failures", "10%"]])
def test_too_many_failures_stop_a_prefetch(server: FaultServer, arguments: list[str]) -> None:
    names = [server.uri(f"no/{index}") for index in range(40)]
    done = asyncfetch("prefetch", *names, "--concurrency", "1", "--json", *arguments)
    told = json.loads(done.out)
    assert done.code == 3
    assert "--max-failures" in told["stopped"]
    assert told["failed"] <= 40
