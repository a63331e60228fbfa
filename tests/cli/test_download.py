"""`asyncfetch download`: planned, asked for, gone on with, and ended in good order."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from asyncfetch.jobs import Directory
from asyncfetch.testing import Credentials, Fault, Faults, FaultServer, demo_objects
from tests.cli.terminal import COMMAND, Done, Terminal, asyncfetch, environment, on_a_terminal
from tests.objects import Bucket

# No pictures by their names: of those the report would show some, for which each run would start a decode worker.
BODIES = {f"photos/{index % 3}/{index:03}.dat": f"body {index}".encode() * 50 for index in range(60)}
USER = Credentials("user", "users-secret")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> Iterator[FaultServer]:
    with FaultServer(dict(BODIES), credentials=USER) as server:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", USER.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", USER.secret_access_key)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("ASYNCFETCH_ENDPOINT_URL", server.endpoint_url)
        monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", str(cache_dir))
        yield server


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def files(out: Path) -> dict[str, bytes]:
    """What lies in the directory, without what the job left behind."""
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    own = (".asyncfetch/", "logs/", "ledger.jsonl", "failures.jsonl", "missing.csv", "report.")
    return {name: body for name, body in found.items() if not name.startswith(own)}


def ledger(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "ledger.jsonl").read_bytes().splitlines()[1:]]


def download(*arguments: object, given: bytes = b"") -> Done:
    return asyncfetch("download", *arguments, given=given)


def told(done: Done, event: str) -> dict[str, Any]:
    (found,) = [line for line in map(json.loads, done.out.splitlines()) if line["event"] == event]
    return dict(found)


def test_a_prefix_comes_as_a_tree_and_a_second_run_has_nothing_to_do(server: FaultServer, out: Path) -> None:
    done = download(server.uri(), "-o", out, "--yes")
    assert done.code == 0, done.err
    assert files(out) == BODIES
    assert "60 files" in done.err
    before = server.count(method="GET")
    again = download(server.uri(), "-o", out, "--yes", "--json")
    assert (again.code, told(again, "plan")["done"], told(again, "end")["files"]) == (0, 60, 0)
    assert server.count(method="GET") == before + 1, "the listing, and nothing else"
    assert sorted(path.name for path in (out / ".asyncfetch").iterdir()) == ["lock"]


def test_without_anybody_to_ask_it_stops_and_says_so(server: FaultServer, out: Path) -> None:
    done = download(server.uri(), "-o", out)
    assert done.code == 2
    assert "--yes" in done.err.splitlines()[-1]
    assert files(out) == {}
    done = download(server.uri(), "-o", out, "--dry-run", "--json")
    assert done.code == 0
    plan = told(done, "plan")
    assert (plan["rows"], plan["files"], plan["bytes"]) == (60, 60, sum(map(len, BODIES.values())))
    assert files(out) == {}


def test_on_a_terminal_it_asks(server: FaultServer, out: Path) -> None:
    with Terminal("download", server.uri(), "-o", out) as terminal:
        terminal.see("Go on?")
        assert files(out) == {}
        terminal.type("n\n")
        assert terminal.ended() == 0
        assert "Nothing was fetched" in terminal.said
    with Terminal("download", server.uri(), "-o", out) as terminal:
        terminal.see("Go on?")
        terminal.type("y\n")
        assert terminal.ended() == 0
        assert "60/60" in terminal.said
        assert "at once" in terminal.said
    assert files(out) == BODIES


@pytest.mark.parametrize("columns", [40, 80])
def test_a_narrow_terminal_shows_what_counts_on_one_line(server: FaultServer, out: Path, columns: int) -> None:
    names = [server.uri(key) for key in (*BODIES, "photos/nothing.dat")]
    said = on_a_terminal("download", *names, "-o", out, "-y", columns=columns)
    drawn = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip() for line in re.split(r"\r\n|\r", said)]
    counted = [line for line in drawn if re.match(r"\d+/61 [\d,.]+/s ", line)]
    assert counted, said
    assert "1 failed" in counted[-1]
    assert ("at once" in counted[-1]) == (columns == 80), "the current file too, where there is room"
    assert max(map(len, counted)) <= columns


def test_rows_of_a_csv_that_are_no_keys(server: FaultServer, out: Path) -> None:
    rows = b"\xef\xbb\xbfimage,label\r\n" + b"".join(b'"%03d.png",x\r\n' % index for index in (1, 2, 3, 2, 77, 78))
    asked = ("--from", "-", "--format", "csv", "--prefix", server.uri("photos/"), "--match", "stem", "-o", out, "-y")
    done = download(*asked, "--json", given=rows)
    plan = told(done, "plan")
    assert (plan["rows"], plan["duplicates"], plan["missing"], plan["files"]) == (6, 1, 2, 3)
    assert done.code == 1, "some are missing"
    assert files(out) == {
        f"{index % 3}/{index:03}.dat": BODIES[f"photos/{index % 3}/{index:03}.dat"] for index in (1, 2, 3)
    }
    assert (out / "missing.csv").read_text().splitlines() == ["name,line,objects,first", "077.png,6,0,", "078.png,7,0,"]


def test_a_list_may_lie_in_a_bucket_and_be_packed(server: FaultServer, out: Path) -> None:
    keys = [key for key in BODIES if key.startswith("photos/1/")]
    packed = gzip.compress("".join(f"{server.uri(key)}\n" for key in keys).encode())
    with FaultServer({**BODIES, "lists/names.csv.gz": packed}, credentials=USER) as other:
        asked = ("-o", out, "-y", "--endpoint-url", other.endpoint_url)
        done = download("--from", other.uri("lists/names.csv.gz"), *asked)
        assert done.code == 0, done.err
        assert files(out) == {key: BODIES[key] for key in keys}
        done = download("--from", other.uri("lists/nothing.csv"), *asked)
        assert (done.code, len(done.err.splitlines())) == (1, 2)
        assert "lists/nothing.csv" in done.err


def test_an_inventory_takes_the_place_of_a_listing(server: FaultServer, out: Path) -> None:
    rows = "".join(f'"bucket","{key}","{len(body)}"\n' for key, body in BODIES.items())
    packed = gzip.compress(rows.encode())
    data = [{"key": "inv/data.csv.gz", "size": len(packed)}]
    manifest = {"destinationBucket": "arn:aws:s3:::bucket", "fileFormat": "CSV", "fileSchema": "Bucket, Key, Size"}
    told_of = {"inv/data.csv.gz": packed, "inv/manifest.json": json.dumps(manifest | {"files": data}).encode()}
    wanted = {key: body for key, body in BODIES.items() if key.startswith("photos/2/") and not key.endswith("9.dat")}
    with FaultServer({**BODIES, **told_of}, credentials=USER) as other:
        asked = ("--from", other.uri("inv/manifest.json"), "--prefix", other.uri("photos/2/"), "--exclude", "*9.dat")
        done = download(*asked, "-o", out, "-y", "--json", "--endpoint-url", other.endpoint_url)
        assert other.count(key="") == 0, "nothing was listed"
    assert done.code == 0, done.err
    assert files(out) == {key.removeprefix("photos/2/"): body for key, body in wanted.items()}
    plan = told(done, "plan")
    assert (plan["files"], plan["bytes"]) == (len(wanted), sum(map(len, wanted.values())))


def test_layouts_and_what_collides(server: FaultServer, out: Path) -> None:
    assert download(server.uri("photos/0/"), "-o", out / "flat", "--flatten", "-y", "--parallel", "4").code == 0
    assert len(files(out / "flat")) == 20
    rows = "\n".join(server.uri(key) for key in BODIES).encode()
    done = download("--from", "-", "-o", out / "named", "--template", "{stem:.2}{ext}", "-y", given=rows)
    assert done.code == 0, done.err
    named = files(out / "named")
    assert sorted(named.values()) == sorted(BODIES.values())
    assert named["00.dat"] == BODIES["photos/0/000.dat"], "the first has the name"
    assert download("--from", "-", "-o", out / "named", "--template", "{stem:.2}{ext}", "-y", given=rows).code == 0
    assert files(out / "named") == named
    other = download(server.uri(), "-o", out / "named", "-y")
    assert other.code == 2
    assert "another job (--template {stem:.2}{ext})" in other.err
    assert download(server.uri(), "-o", out / "hex", "--template", "{digest:.8}{ext}", "-y").code == 0
    assert sorted(files(out / "hex").values()) == sorted(BODIES.values())


def test_damage_is_found_and_mended(server: FaultServer, out: Path) -> None:
    assert download(server.uri(), "-o", out, "-y", "--place", "copy").code == 0
    short, changed, gone, sly = (out / "photos/0" / name for name in ("000.dat", "003.dat", "006.dat", "009.dat"))
    short.write_bytes(b"x")
    changed.write_bytes(b"x" * changed.stat().st_size)
    gone.unlink()
    stamp = sly.stat()
    sly.write_bytes(b"x" * stamp.st_size)
    os.utime(sly, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    done = download(server.uri(), "-o", out, "-y", "--json", "--place", "copy")
    assert told(done, "plan")["files"] == 3
    assert {name for name, body in files(out).items() if body != BODIES[name]} == {"photos/0/009.dat"}
    assert told(download(server.uri(), "-o", out, "-y", "--json", "--verify"), "plan")["files"] == 1
    assert files(out) == BODIES


def test_an_object_that_is_another_now_is_fetched_again(server: FaultServer, out: Path) -> None:
    assert download(server.uri(), "-o", out, "-y").code == 0
    server.replace("photos/0/000.dat")
    done = download(server.uri(), "-o", out, "-y", "--json")
    assert told(done, "end")["files"] == 1
    assert (out / "photos/0/000.dat").read_bytes() == server.versions("photos/0/000.dat")[1]
    assert len(files(out)) == 60


def test_failures_are_told_left_alone_and_tried_again(server: FaultServer, out: Path) -> None:
    names = [server.uri(key) for key in list(BODIES)[:5]] + [server.uri("not-there"), "ftp://x/y"]
    done = download(*names, "-o", out, "-y", "--json")
    assert done.code == 1
    assert told(done, "end")["failures_by_kind"] == {"ObjectNotFound": 1, "InvalidURI": 1}
    again = download(*names, "-o", out, "-y", "--json")
    assert (again.code, told(again, "plan")["failed_before"], told(again, "plan")["files"]) == (1, 2, 0)
    retried = download(*names, "-o", out, "-y", "--json", "--retry-failed")
    assert (told(retried, "plan")["files"], told(retried, "end")["failed"]) == (2, 2)
    from_ledger = download("--from", out / "failures.jsonl", "-o", out.with_name("other"), "-y", "--json")
    assert told(from_ledger, "plan")["rows"] == 4
    quiet = download(*names, "-o", out, "-yq", "--retry-failed").err
    assert quiet.startswith("asyncfetch: 2 objects failed (")
    assert (quiet.count("\n"), "ObjectNotFound 1" in quiet, "InvalidURI 1" in quiet) == (1, True, True), quiet


@pytest.mark.parametrize("arguments", [["--fail-fast"], ["--max-failures", "2"]])
def test_too_many_failures_stop_it(server: FaultServer, out: Path, arguments: list[str]) -> None:
    server.faults = Faults(slow=1.0, slow_seconds=0.02)
    rows = "\n".join([server.uri(f"no/{index}") for index in range(20)] + [server.uri(key) for key in BODIES] * 1)
    done = download("--from", "-", "-o", out, "-y", "--concurrency", "1", *arguments, "--json", given=rows.encode())
    assert done.code == 3
    end = told(done, "end")
    assert "--max-failures" in end["stopped"]
    assert end["left"] > 20
    assert end["failed"] + end["files"] + end["left"] == 80


def test_expired_credentials_stop_it_and_are_nobodys_failure(server: FaultServer, out: Path) -> None:
    server.faults = Faults(
        at={(f"photos/{i % 3}/{i:03}.dat", n): Fault.EXPIRE_TOKEN for i in range(30, 60) for n in range(1, 9)}
    )
    done = download(server.uri(), "-o", out, "-y", "--json")
    end = told(done, "end")
    assert (done.code, end["failed"]) == (3, 0)
    assert "aws sso login" in end["stopped"]
    assert not (out / "failures.jsonl").read_bytes()
    assert all("error" not in line for line in ledger(out))
    server.faults = Faults()
    assert download(server.uri(), "-o", out, "-y").code == 0
    assert files(out) == BODIES


def test_ctrl_c_once_finishes_what_is_in_flight_and_tells_how_to_go_on(server: FaultServer, out: Path) -> None:
    server.faults = Faults(slow=1.0, slow_seconds=0.1)
    with Terminal("download", server.uri(), "-o", out, "-y", "--concurrency", "2") as terminal:
        while not (out / "ledger.jsonl").exists() or not ledger(out):
            time.sleep(0.01)
        terminal.type("\x03")
        assert terminal.ended() == 130
        assert "finishing what is in flight" in terminal.said
        assert "to go on: asyncfetch download" in terminal.said
        assert terminal.said.rstrip().endswith("asyncfetch: interrupted")
    there = files(out)
    assert 0 < len(there) < 60
    assert {line["path"] for line in ledger(out)} == set(there)
    server.faults = Faults()
    assert download(server.uri(), "-o", out, "-y").code == 0
    assert files(out) == BODIES
    assert all(server.count(method="GET", key=key) == 1 for key in there), "and fetched none of them again"


def test_a_terminal_that_closes_does_what_ctrl_c_does(server: FaultServer, out: Path) -> None:
    server.faults = Faults(slow=1.0, slow_seconds=0.05)
    with Terminal("download", server.uri(), "-o", out, "-y", "--concurrency", "2") as terminal:
        while not (out / "ledger.jsonl").exists() or not ledger(out):
            time.sleep(0.01)
        assert terminal.closed() == 128 + signal.SIGHUP
    assert (out / "report.json").exists()
    assert 0 < len(files(out)) < 60
    assert {line["path"] for line in ledger(out)} == set(files(out))


@pytest.mark.parametrize("command", ["download", "prefetch"])
def test_a_containers_stop_does_what_ctrl_c_does(server: FaultServer, out: Path, command: str) -> None:
    server.faults = Faults(slow=1.0, slow_seconds=0.05)
    asked = ["prefetch", server.uri()] if command == "prefetch" else ["download", server.uri(), "-o", str(out), "-y"]
    with subprocess.Popen(
        [*COMMAND, *asked, "--concurrency", "2"], stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        while server.count(method="GET") < 5:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        said = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM, said
    assert f"to go on: asyncfetch {command}" in said, "it was not ended at once"
    if command == "download":
        assert (out / "report.json").exists()
        assert {line["path"] for line in ledger(out)} == set(files(out))
    asked_for = server.count(method="GET")
    server.faults = Faults()
    assert asyncfetch(*asked).code == 0
    fetched = server.count(method="GET") - asked_for - 1  # and a listing
    assert fetched < len(BODIES), "what was in flight came, and is there"


def test_a_reader_that_has_gone_ends_it_in_good_order(server: FaultServer, out: Path) -> None:
    server.faults = Faults(slow=1.0, slow_seconds=0.02)
    with subprocess.Popen(
        [*COMMAND, "download", server.uri(), "-o", str(out), "-y", "--json", "--concurrency", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"plan" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE
    assert {line["path"] for line in ledger(out)} == set(files(out)), "what was in flight is in its place"


def test_without_any_standard_input_and_output_it_does_its_work(server: FaultServer, out: Path) -> None:
    closed = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    asked = ["download", server.uri(), "-o", str(out), "-y"]
    assert subprocess.run([*closed, *COMMAND, *asked], env=environment(), check=False).returncode == 0
    assert files(out) == BODIES


def test_ctrl_c_twice_ends_it_now(server: FaultServer, out: Path) -> None:
    server.faults = Faults(at={(key, nth): Fault.SLOW for key in BODIES for nth in (1, 2)}, slow_seconds=20.0)
    with Terminal("download", server.uri(), "-o", out, "-y") as terminal:
        terminal.see("to fetch")
        while not server.count(method="GET", key=""):
            time.sleep(0.01)
        terminal.see("download")
        terminal.see("0/60")
        terminal.type("\x03")
        terminal.see("finishing")
        terminal.type("\x03")
        assert terminal.ended() == 130, terminal.said
    assert files(out) == {}


def test_killed_it_goes_on_where_it_was(server: FaultServer, out: Path) -> None:
    server.faults = Faults(slow=1.0, slow_seconds=0.05)
    with subprocess.Popen(
        [*COMMAND, "download", server.uri(), "-o", str(out), "-yq", "--concurrency", "4"], env=environment()
    ) as process:
        while not (out / "ledger.jsonl").exists() or len(ledger(out)) < 10:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    with (out / "ledger.jsonl").open("ab") as file:
        file.write(b'{"uri":"s3://bucket/photos/0/000.dat","path":"../../')
    for body in files(out).items():
        assert BODIES[body[0]] == body[1], "whole"
    server.faults = Faults()
    done = download(server.uri(), "-o", out, "-y", "--json")
    assert done.code == 0, done.err
    assert told(done, "plan")["done"] >= 10
    assert files(out) == BODIES


def test_a_second_run_on_one_directory_says_so_and_leaves(server: FaultServer, out: Path) -> None:
    with Directory(out):
        done = download(server.uri(), "-o", out, "-y")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "another download is at work" in done.err


def test_a_mirror_removes_what_it_wrote_itself_and_nothing_else(
    empty_bucket: Bucket, out: Path, monkeypatch: pytest.MonkeyPatch, cache_dir: Path
) -> None:
    monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", str(cache_dir))
    keys = [f"{folder}/{number}.txt" for folder in ("a", "b") for number in range(4)]
    for key in keys:
        empty_bucket.put(key, key.encode())
    assert download(empty_bucket.uri(), "-o", out, "-y").code == 0
    (out / "b/mine.txt").write_text("mine")
    (out / "b/0.txt").unlink()
    (out / "b/0.txt").write_text("mine too")
    for key in keys[4:] + keys[:1]:
        empty_bucket.client.delete_object(Bucket=empty_bucket.name, Key=key)
    looked = download(empty_bucket.uri(), "-o", out, "--delete", "--dry-run", "--json")
    assert told(looked, "plan")["to_remove"] == 5
    part = download(empty_bucket.uri("a/"), "-o", out, "-y", "--delete", "--json")
    assert told(part, "end")["removed"] == 1, "only what lay under that prefix"
    done = download(empty_bucket.uri(), "-o", out, "-y", "--delete", "--json")
    assert (done.code, told(done, "end")["removed"]) == (0, 3)
    left = {"a/1.txt", "a/2.txt", "a/3.txt", "b/0.txt", "b/mine.txt"}
    assert set(files(out)) == left
    nothing = download(empty_bucket.uri("nothing/"), "-o", out, "-y", "--delete")
    assert (nothing.code, set(files(out))) == (2, left)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["{uri}", "--from", "-"], 2, "--from"),
        (["{uri}", "--flatten", "--template", "{{stem}}"], 2, "two layouts"),
        (["{uri}", "--template", "{{key}}"], 2, "--template"),
        (["{uri}", "--place", "teleport"], 2, "--place"),
        (["{uri}", "--max-failures", "few"], 2, "--max-failures"),
        (["{uri}", "--fail-fast", "--max-failures", "2"], 2, "--fail-fast"),
        (["{uri}nothing/"], 2, "Nothing is to be fetched"),
        (["--from", "-", "--prefix", "{uri}"], 2, "answers to any of 1 name"),
        (["--from", "-", "--delete"], 2, "--delete"),
        (["{uri}", "--delete", "--include", "*.jpg"], 2, "--delete"),
        (["--from", "{out}"], 2, "is a directory"),
        (["{uri}", "--convert", "gif"], 2, "--convert"),
        (["{uri}", "--max-side", "9"], 2, "--convert"),
        (["{uri}", "--quality", "90"], 2, "--convert"),
        (["{uri}", "--parallel", "0"], 2, "--parallel"),
        (["{uri}", "--convert", "jpg", "--quality", "0"], 2, "--quality"),
        (["--from", "/no/such/list"], 1, "/no/such/list"),
    ],
)
def test_wrong_use_is_one_line(
    server: FaultServer, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    said = [argument.format(uri=server.uri(), out=tmp_path) for argument in arguments]
    done = download(*said, "-o", tmp_path / "out", "-y", given=b"no such name\n")
    assert done.code == code, done.err
    lines = [line for line in done.err.splitlines() if "looking for what" not in line]
    assert len(lines) == 1
    assert words in lines[0]


def test_an_output_that_cannot_be_written_is_one_line(server: FaultServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = download(server.uri(), "-o", tmp_path / "file", "-y")
    assert (done.code, done.err.count("\n")) == (1, 1)


def test_what_is_left_behind_for_the_morning(server: FaultServer, out: Path) -> None:
    pictures = {key: body for key, body in demo_objects(6) if key.endswith(".jpg") and body}
    with FaultServer(dict(pictures) | {"no.jpg": b"no picture"}, credentials=USER) as other:
        names = [other.uri(key) for key in [*pictures, "no.jpg", "not-there.jpg"]]
        done = download(*names, "-o", out, "-y", "--endpoint-url", other.endpoint_url)
    assert done.code == 1
    (log,) = (out / "logs").iterdir()
    assert len([line for line in log.read_text().splitlines() if " done " in line]) == len(pictures) + 1
    report = json.loads((out / "report.json").read_text())
    assert report["run"]["files"] == len(pictures) + 1
    assert report["failures"]["ObjectNotFound"]["count"] == 1
    page = (out / "report.html").read_text()
    assert page.count("data:image/webp;base64,") == len([key for key in pictures if "not-an-image" not in key])
    assert "not-there.jpg" in page


def test_what_proves_an_identity_is_nowhere_in_what_is_left_behind(server: FaultServer, out: Path) -> None:
    secret = "0123456789abcdef"
    url = f"{server.endpoint_url}/nothing.jpg?X-Amz-Signature={secret}"
    assert download(url, "-o", out, "-y").code == 1
    kept = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "failures.jsonl"}
    assert not [path for path, body in kept.items() if secret.encode() in body]
    again = download(url, "-o", out, "-y", "--json")
    assert told(again, "plan")["failed_before"] == 1


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_images_are_made_into_others(server: FaultServer, out: Path, kind: str) -> None:
    pictures = {
        key: body for key, body in demo_objects(4) if key.endswith(".jpg") and "not-an-image" not in key and body
    }
    with FaultServer(dict(pictures) | {"no.jpg": b"no picture"}, credentials=USER) as other:
        asked = (
            other.uri(),
            "-o",
            out,
            "-y",
            "--endpoint-url",
            other.endpoint_url,
            "--convert",
            kind,
            "--max-side",
            64,
        )
        done = download(*asked, "--json")
        assert done.code == 1
        end = told(done, "end")
        assert (end["files"], end["failures_by_kind"]) == (len(pictures), {"UnsupportedFormat": 1})
        again = told(download(*asked, "--json"), "plan")
        assert (again["done"], again["failed_before"], again["files"]) == (len(pictures), 1, 0)
        refused = download(*asked, "--quality", "50")
        assert (refused.code, "another job" in refused.err) == (2, True)
    assert set(files(out)) == {key.removesuffix("jpg") + kind for key in pictures}
    for path in out.glob(f"*.{kind}"):
        pixels = cv2.imread(str(path))
        assert pixels is not None
        assert max(pixels.shape[:2]) == 64
    assert [path.name for path in (out / ".asyncfetch").iterdir()] == ["lock"]


def test_a_full_disk_stops_it_and_is_nobodys_failure(server: FaultServer, out: Path) -> None:
    with FaultServer({**BODIES, "photos/large": bytes(8 << 20)}, credentials=USER) as other:
        asked = ["download", other.uri(), "-o", str(out), "-y", "--json", "--endpoint-url", other.endpoint_url]
        done = subprocess.run(  # a limit of the size of files, in blocks of 512 or 1,024 bytes, is a disk that is full
            ["/bin/sh", "-c", 'ulimit -f 4096; exec "$@"', "sh", *COMMAND, *asked],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert (done.returncode, lines[-1]["failed"]) == (3, 0), done.stderr
        assert "Free space" in lines[-1]["stopped"]
        assert download(*asked[1:]).code == 0
    assert files(out) == {**BODIES, "photos/large": bytes(8 << 20)}
