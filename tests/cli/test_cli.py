"""The command line: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.cli.terminal import COMMAND, asyncfetch, environment, on_a_terminal
from tests.objects import Bucket

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def bucket(empty_bucket: Bucket, monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> Bucket:
    monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", str(cache_dir))
    for index in range(5):
        empty_bucket.put(f"dir/{index}.txt", b"x" * 1000 * (index + 1))
    empty_bucket.put("top.txt", b"hello\n")
    empty_bucket.server.reset_counts()
    return empty_bucket


def test_get_prints_the_path_in_the_cache(bucket: Bucket, cache_dir: Path) -> None:
    done = asyncfetch("get", bucket.uri("top.txt"))
    assert (done.code, done.err) == (0, "")
    path = Path(done.out.decode().rstrip("\n"))
    assert path.read_bytes() == b"hello\n"
    assert cache_dir in path.parents


def test_get_to_a_file_a_directory_and_standard_output(bucket: Bucket, tmp_path: Path) -> None:
    assert asyncfetch("get", bucket.uri("top.txt"), "-o", "-").out == b"hello\n"
    assert asyncfetch("get", bucket.uri("top.txt"), "-o", tmp_path / "here.txt").code == 0
    assert (tmp_path / "here.txt").read_bytes() == b"hello\n"
    (tmp_path / "dir").mkdir()
    done = asyncfetch("get", bucket.uri("top.txt"), "-o", tmp_path / "dir")
    assert (tmp_path / "dir" / "top.txt").read_bytes() == b"hello\n"
    assert "from the cache" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "dir", "here.txt"], "and nothing half-made"
    done = asyncfetch("get", bucket.uri("top.txt"), "-o", f"{tmp_path}/no-such-directory/")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "no-such-directory/ is no directory" in done.err
    assert bucket.requests() == 4, "one body and three revalidations"
    assert bucket.bodies() == 1


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (["--endpoint-url", "example"], "--endpoint-url 'example' is not a URL"),
        (["--concurrency", "0"], "--concurrency must be a whole number"),
        (["--memory-budget", "much"], "--memory-budget 'much' is not a size"),
        (["--cache-dir", "/dev/null"], "or point --cache-dir elsewhere"),
        ([], "or read a public bucket with --anonymous."),
    ],
)
def test_complaints_name_the_options_of_the_command(bucket: Bucket, wrong: list[str], line: str) -> None:
    asked = ("get", bucket.uri("top.txt"), *wrong)
    done = asyncfetch(*asked, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", AWS_EC2_METADATA_DISABLED="true")
    assert (done.code, done.err.count("\n")) == (1 if "--cache-dir" in wrong or not wrong else 2, 1)
    assert line in done.err


def test_get_with_json(bucket: Bucket) -> None:
    told = json.loads(asyncfetch("get", bucket.uri("top.txt"), "--json").out)
    assert told["uri"] == bucket.uri("top.txt")
    assert told["size"] == 6
    assert told["digest"].startswith("blake3:")
    assert told["from_cache"] is False


def test_an_output_that_cannot_be_written_is_one_line(bucket: Bucket, tmp_path: Path) -> None:
    done = asyncfetch("get", bucket.uri("top.txt"), "-o", tmp_path / "no" / "such" / "file")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "no/such" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["get", "s3://{bucket}/missing"], 1, "s3://{bucket}/missing"),
        (["get", "s3://no-such-bucket-here/k"], 1, "no-such-bucket-here"),
        (["get", "ftp://host/file"], 2, "ftp"),
        (["get", "s3://"], 2, "s3://bucket/key"),
        (["get", "/no/such/file"], 1, "/no/such/file"),
        (["get", "s3://{bucket}/top.txt", "--concurrency", "0"], 2, "concurrency"),
        (["get", "s3://{bucket}/top.txt", "--memory-budget", "much"], 2, "--memory-budget"),
        (["get", "s3://{bucket}/top.txt", "--revalidate", "weekly"], 2, "--revalidate"),
        (["get", "s3://{bucket}/top.txt", "--profile", "nobody"], 1, "nobody"),
        (["get", "s3://{bucket}/top.txt", "--endpoint-url", "http://127.0.0.1:9"], 1, "127.0.0.1:9"),
        (["ls", "s3://no-such-bucket-here/"], 1, "no-such-bucket-here"),
        (["prefetch"], 2, "--from"),
        (["prefetch", "--from", "/no/such/list"], 1, "/no/such/list"),
        (["prefetch", "s3://{bucket}/", "--from", "-"], 2, "--from"),
        (["get", "s3://{bucket}/top.txt", "--cache-dir", "/etc/hostname"], 1, "/etc/hostname"),
    ],
)
def test_what_goes_wrong_is_one_line_that_names_it(bucket: Bucket, arguments: list[str], code: int, told: str) -> None:
    done = asyncfetch(*[argument.format(bucket=bucket.name) for argument in arguments])
    assert done.code == code, done.err
    assert done.err.count("\n") == 1
    assert done.err.startswith("asyncfetch: ")
    assert told.format(bucket=bucket.name) in done.err
    assert done.out == b""


def test_debug_shows_the_traceback_too_and_no_secret(bucket: Bucket) -> None:
    signed = f"{bucket.server.endpoint_url}/{bucket.name}/missing?X-Amz-Security-Token=hush&X-Amz-Signature=hush"
    for uri in (bucket.uri("missing"), signed):
        done = asyncfetch("get", uri, "--debug")
        assert "Traceback" in done.err
        assert done.err.splitlines()[-1].startswith("asyncfetch: ")
        for secret in (bucket.server.credentials.secret_access_key, "hush"):
            assert secret not in done.err


def test_an_unknown_command_is_wrong_use() -> None:
    assert asyncfetch("fetch-everything").code == 2


def test_ls_flat_recursive_human_and_json(bucket: Bucket) -> None:
    flat = asyncfetch("ls", bucket.uri()).out.decode().splitlines()
    assert [line.split()[-1] for line in flat] == [bucket.uri("dir/"), bucket.uri("top.txt")]
    deep = asyncfetch("ls", bucket.uri(), "--recursive", "--human", "--parallel", "4").out.decode().splitlines()
    assert len(deep) == 6
    assert deep[1].split()[2:4] == ["2", "kB"]
    told = [json.loads(line) for line in asyncfetch("ls", bucket.uri("dir/"), "--json").out.splitlines()]
    assert [item["size"] for item in told] == [1000, 2000, 3000, 4000, 5000]


def test_ls_of_what_is_not_there_exits_1_and_of_what_is_empty_0(bucket: Bucket, tmp_path: Path) -> None:
    for missing in (bucket.uri("nothing/"), tmp_path / "none"):
        done = asyncfetch("ls", missing)
        assert (done.code, done.out) == (1, b"")
        assert "nothing lies under" in done.err
    done = asyncfetch("ls", f"{tmp_path}/none/", "--json", "--quiet")
    assert (done.code, done.out) == (1, b"")
    (tmp_path / "empty").mkdir()
    for empty in (tmp_path / "empty", f"{tmp_path}/empty/"):
        done = asyncfetch("ls", empty)
        assert (done.code, done.out) == (0, b"")


def test_ls_into_a_pipe_that_closes_is_no_error(bucket: Bucket) -> None:
    with subprocess.Popen(
        [*COMMAND, "ls", "/usr", "--recursive"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_prefetch_of_a_prefix_then_again(bucket: Bucket) -> None:
    first = asyncfetch("prefetch", bucket.uri("dir/"))
    assert first.code == 0
    assert "5 objects" in first.err
    assert first.out == b""
    second = json.loads(asyncfetch("prefetch", bucket.uri("dir/"), "--json").out)
    assert (second["objects"], second["downloaded"], second["hit_rate"], second["failures"]) == (5, 0, 1.0, [])
    assert second["verdict"]["sentence"]
    assert bucket.bodies() == 5
    assert asyncfetch("prefetch", bucket.uri("dir/"), "--quiet").err == ""


@pytest.mark.parametrize("how", ["file", "stdin"])
def test_prefetch_of_a_list_with_bad_lines(bucket: Bucket, tmp_path: Path, how: str) -> None:
    lines = [bucket.uri("dir/0.txt"), "", bucket.uri("missing"), "ftp://x/y", bucket.uri("top.txt") + "\r"]
    text = "\n".join(lines).encode()
    (tmp_path / "list").write_bytes(text)
    asked = ("prefetch", "--from", "-" if how == "stdin" else tmp_path / "list")
    quiet = asyncfetch(*asked, "--quiet", given=text)
    assert (quiet.code, quiet.out, len(quiet.err.splitlines())) == (1, b"", 2), "what failed is said all the same"
    done = asyncfetch(*asked, "--json", given=text)
    told = json.loads(done.out)
    assert done.code == 1, "some objects failed"
    assert (told["objects"], told["failed"]) == (2, 2)
    assert told["failures_by_kind"] == {"ObjectNotFound": 1, "InvalidURI": 1}
    assert [failure["uri"] for failure in sorted(told["failures"], key=lambda item: item["index"])] == lines[2:4]


@pytest.mark.parametrize("how", ["file", "stdin"])
def test_a_line_that_is_not_utf_8_fails_alone(bucket: Bucket, tmp_path: Path, how: str) -> None:
    text = b"\n".join([bucket.uri("dir/0.txt").encode(), b"s3://bucket/\xff", bucket.uri("top.txt").encode()])
    (tmp_path / "list").write_bytes(text)
    done = asyncfetch("prefetch", "--from", "-" if how == "stdin" else tmp_path / "list", "--json", given=text)
    assert done.code == 1, done.err
    told = json.loads(done.out)
    assert (told["objects"], told["failures_by_kind"]) == (2, {"InvalidURI": 1})


def test_a_list_is_fetched_as_its_lines_come(bucket: Bucket, cache_dir: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "prefetch", "--from", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdin is not None
        process.stdin.write(bucket.uri("top.txt").encode() + b"\n")
        process.stdin.flush()
        deadline = time.monotonic() + 20
        while not list(cache_dir.glob("v1/blobs/*/*/*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert list(cache_dir.glob("v1/blobs/*/*/*")), "the list has not ended yet"
        process.stdin.close()
        assert process.wait(20) == 0


@pytest.mark.parametrize("arguments", [["get", "s3://{bucket}/large", "-o", "-"], ["ls", "s3://{bucket}/"]])
def test_a_reader_that_has_gone_is_told_like_by_other_commands(bucket: Bucket, arguments: list[str]) -> None:
    bucket.put("large", b"x" * (1 << 20))
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(
        [*COMMAND, *[argument.format(bucket=bucket.name) for argument in arguments]],
        stdout=writing,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        os.close(writing)
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(20) == 128 + signal.SIGPIPE


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\rb", "\u202egnp"])
def test_a_key_commands_no_terminal(empty_bucket: Bucket, cache_dir: Path, name: str) -> None:
    empty_bucket.put(name, b"x")
    escaped = name.encode("unicode_escape").decode()
    assert f"{empty_bucket.uri()}{escaped}\r\n" in on_a_terminal("ls", empty_bucket.uri())
    assert f"{empty_bucket.uri(name)}\n".encode() in asyncfetch("ls", empty_bucket.uri()).out
    missing = on_a_terminal("get", empty_bucket.uri(f"{name}-missing"), "--cache-dir", cache_dir)
    assert f"asyncfetch: {empty_bucket.uri()}{escaped}-missing: " in missing


def test_help_shows_that_several_objects_may_be_named() -> None:
    assert "[URI…]" in asyncfetch("prefetch", "--help", COLUMNS="100").out.decode()


def test_json_and_an_object_do_not_both_go_to_standard_output(bucket: Bucket) -> None:
    done = asyncfetch("get", bucket.uri("top.txt"), "--json", "-o", "-")
    assert (done.code, done.out) == (2, b"")
    assert "--json and -o -" in done.err


def test_prefetch_says_plain_lines_in_a_pipe_and_draws_a_bar_on_a_terminal(bucket: Bucket) -> None:
    assert "\x1b" not in asyncfetch("prefetch", bucket.uri("dir/")).err
    drawn = on_a_terminal("prefetch", bucket.uri("dir/"))
    assert "━" in drawn
    assert "5/5" in drawn
    assert "\x1b" not in on_a_terminal("prefetch", bucket.uri("dir/"), kind="dumb")


def test_cache_stats_and_clear(bucket: Bucket, cache_dir: Path) -> None:
    bucket.put("dir/same.txt", b"hello\n")
    asyncfetch("prefetch", bucket.uri())
    told = json.loads(asyncfetch("cache", "stats", "--json").out)
    assert (told["objects"], told["blobs"]) == (7, 6)
    assert told["object_bytes"] - told["blob_bytes"] == 6
    assert told["cache_dir"] == str(cache_dir)
    assert b"7 objects" in asyncfetch("cache", "stats").out
    assert asyncfetch("cache", "clear").code == 0
    assert json.loads(asyncfetch("cache", "stats", "--json").out)["blobs"] == 0
    assert not [path for path in cache_dir.glob("v1/blobs/*/*/*") if path.is_file()]


@contextmanager
def endless(cache_dir: Path, tmp_path: Path, *arguments: str, ignored: str = "") -> Iterator[subprocess.Popen[str]]:
    """A prefetch by a list that never ends, at work; `ignored` are signals that whoever started it had it ignore."""
    os.mkfifo(tmp_path / "list")
    command = [*COMMAND, "prefetch", "--from", str(tmp_path / "list"), "--cache-dir", str(cache_dir), *arguments]
    with (
        subprocess.Popen(
            ["sh", "-c", f"trap '' {ignored}; exec \"$@\"" if ignored else 'exec "$@"', "sh", *command],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        ) as process,
        (tmp_path / "list").open("w") as writing,
    ):
        writing.write("/etc/hostname\n" * 10)
        writing.flush()
        deadline = time.monotonic() + 20
        while not list(cache_dir.glob("v1/tmp/*/lock")) and time.monotonic() < deadline:
            time.sleep(0.01)
        yield process
    assert not list(cache_dir.glob("v1/tmp/*/*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_it_cleans_up_and_says_so(
    cache_dir: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with endless(cache_dir, tmp_path) as process:
        process.send_signal(number)
        assert process.wait(20) == code, "though whoever writes the list has not ended it"
        assert process.stderr is not None
        told = process.stderr.read().splitlines()
        assert told[-1] == "asyncfetch: interrupted"
        assert any("were in the cache" in line for line in told), "what came of it is summed up"


@pytest.mark.parametrize(("ignored", "number", "code"), [("INT", signal.SIGTERM, 143), ("", signal.SIGHUP, 129)])
def test_what_is_no_bulk_job_ends_in_good_order_too(
    cache_dir: Path, tmp_path: Path, ignored: str, number: signal.Signals, code: int
) -> None:
    """A shell that runs no jobs has what it starts with `&` ignore Ctrl-C, and SIGTERM goes the way of that."""
    with endless(cache_dir, tmp_path, "--dry-run", ignored=ignored) as process:
        process.send_signal(number)
        assert process.wait(20) == code
        assert process.stderr is not None
        assert process.stderr.read() == "asyncfetch: interrupted\n"


@pytest.mark.parametrize(("ignored", "number"), [("HUP", signal.SIGHUP), ("INT", signal.SIGINT)])
def test_what_it_was_started_to_ignore_does_not_end_it(
    cache_dir: Path, tmp_path: Path, ignored: str, number: signal.Signals
) -> None:
    """By nohup, or by a shell's `&`."""
    with endless(cache_dir, tmp_path, ignored=ignored) as process:
        process.send_signal(number)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM


def test_demo_shows_three_passes_and_leaves_nothing(tmp_path: Path) -> None:
    asyncfetch("--version")  # the process that commands are forked from is there now
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    done = asyncfetch("demo", "--objects", "40", "--json", TMPDIR=str(tmp_path))
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert list(told) == ["cold", "warm", "warm, decoded"]
    assert (told["cold"]["objects"], told["cold"]["downloaded"], told["cold"]["failed"]) == (42, 42, 0)
    assert (told["warm"]["objects"], told["warm"]["downloaded"]) == (42, 0)
    assert told["warm, decoded"]["objects"] == 40
    assert told["warm, decoded"]["failures_by_kind"] == {"EmptyObject": 1, "UnsupportedFormat": 1}
    assert list(tmp_path.iterdir()) == []
    after = psutil.Process().children(recursive=True)
    left = [child.as_dict(["pid", "ppid", "status", "cmdline"]) for child in after if child.pid not in before]
    assert left == []


def test_demo_draws_bars_and_a_table_on_a_terminal_and_can_keep_the_cache(tmp_path: Path) -> None:
    drawn = on_a_terminal("demo", "--objects", "20", "--keep", "--cache-dir", tmp_path / "kept")
    for expected in ("One bucket, three passes", "warm, decoded", "hit rate", "EmptyObject", "22/22", "━"):
        assert expected in drawn
    assert "asyncfetch cache stats --cache-dir" in drawn
    assert list((tmp_path / "kept").glob("v1/blobs/*/*/*"))


def test_shells_complete_commands_and_options(tmp_path: Path) -> None:
    # typer's own switch: the shell is then named, and not looked for among the processes above this one
    installed = asyncfetch(
        "--install-completion", "bash", HOME=str(tmp_path), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert (installed.code, installed.err) == (0, "")
    assert "asyncfetch" in (tmp_path / ".bash_completions/asyncfetch.sh").read_text()
    done = asyncfetch(_ASYNCFETCH_COMPLETE="complete_bash", COMP_WORDS="asyncfetch do", COMP_CWORD="1")
    assert done.out.split() == [b"download", b"doctor"], done.err
    done = asyncfetch(_ASYNCFETCH_COMPLETE="complete_bash", COMP_WORDS="asyncfetch download --ret", COMP_CWORD="2")
    assert done.out.split() == [b"--retry-failed"], done.err
