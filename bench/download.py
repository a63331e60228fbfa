"""What a bulk download takes: `python -m bench.download`, a process each, as a user runs it.

Objects of 86 KB under a prefix, named by a CSV with another extension, come from nginx, with their listing in canned
pages: cold, in turns with s5cmd where that is installed, told every key; then again when all is there, by the same CSV
and by one of URIs, and a listing by obstore alone, for what of that is the server's. All of it once more from rclone's
S3 server, which needs more CPU for an object than its clients. Then some come through a server that answers 20 ms
late, beside a loop over boto3. Before all that a list of five million rows is planned.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from asyncfetch.testing import Faults, FaultServer
from bench.ending import heed
from bench.names import ACCESS_KEY, SECRET_KEY
from bench.servers import ServerFailedError, certificate, serve_listed

BODY = 86_000  # bytes, as the photographs of the other benches
BUCKET = "bench-download"
LATE = 0.02  # seconds

_BOTO = """
import os, sys, boto3
client = boto3.client("s3", endpoint_url=os.environ["ASYNCFETCH_ENDPOINT_URL"])
for number in range(int(sys.argv[1])):
    client.download_file("bucket", f"photos/{number:08}.jpg", os.path.join(sys.argv[2], f"{number:08}.jpg"))
"""
_LIST = """
import os, sys
from obstore.store import S3Store
store = S3Store("{bucket}", endpoint=os.environ["ASYNCFETCH_ENDPOINT_URL"], region="us-east-1",
                client_options={{"allow_http": True}}, virtual_hosted_style_request=False)
assert sum(len(page) for page in store.list("photos/")) == int(sys.argv[1])
"""
_PLAN = """
import asyncio, resource, sys
from asyncfetch import Fetcher
from asyncfetch.jobs import Layout, Plan, Request, find
async def main():
    async with Fetcher(ephemeral=True) as fetcher:
        with Plan(Layout()) as plan:
            await plan.build(find(fetcher, Request(rows=sys.argv[1])), [], None)
            assert plan.counts.todo == int(sys.argv[2])
asyncio.run(main())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"  peak memory {peak / (1024 if sys.platform == 'linux' else 1 << 20):.0f} MiB")
"""


def main() -> None:
    """Runs the bench, and prints a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3, help="of the cold downloads from nginx (default: %(default)s)")
    parser.add_argument("--late-objects", type=int, default=3_000, help="of those that come 20 ms late")
    parser.add_argument("--rows", type=int, default=5_000_000, help="of the list that is planned")
    parser.add_argument("--only", default="plan,nginx,rclone,late", help="the parts to run (default: %(default)s)")
    parser.add_argument("--directory", help="where all of it lies; else a temporary directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-download-", dir=options.directory) as name:
        top, parts = Path(name), options.only.split(",")
        if "plan" in parts:
            _plan(top, options.rows)  # first: a child's peak of memory begins with its parent's
        for server, rounds in (("nginx", options.rounds), ("rclone", 1)):
            if server in parts:
                _bulk(top / server, server, options.objects, rounds)
                shutil.rmtree(top / server)
        if "late" in parts:
            _late(top, options.late_objects)


def _bulk(top: Path, name: str, objects: int, rounds: int) -> None:
    print(f"{objects:,} objects of {BODY:,} bytes from {name} by a CSV, with --match stem")
    photographs, scratch = top / "root" / BUCKET / "photos", top / "scratch"
    photographs.mkdir(parents=True)
    scratch.mkdir()
    for number in range(objects):
        (photographs / f"{number:08}.jpg").write_bytes(os.urandom(BODY))
    prefix = f"s3://{BUCKET}/photos/"
    rows, uris = top / "names.csv", top / "uris.csv"
    rows.write_text("file\n" + "".join(f"{number:08}.png\n" for number in range(objects)))
    uris.write_text("uri\n" + "".join(f"{prefix}{number:08}.jpg\n" for number in range(objects)))
    try:
        with serve_listed(name, top / "root", BUCKET, scratch, certificate(scratch)) as server:
            assert server.plain is not None
            environment = _environment(server.plain, top)
            output = ["-yq", "-o", str(top / "out")]
            by_names = [*_asyncfetch(), "--from", str(rows), "--prefix", prefix, "--match", "stem", *output]
            for _ in range(rounds):
                for made in ("cache", "out", "s5"):
                    shutil.rmtree(top / made, ignore_errors=True)
                _time("asyncfetch, cold", by_names, environment, objects)
                _same(photographs, top / "out")
                _beside(top, prefix, environment, objects)
            listing = [sys.executable, "-c", _LIST.format(bucket=BUCKET), str(objects)]
            for _ in range(2):
                _time("all there, by names", by_names, environment, objects)
                _time("all there, by URIs", [*_asyncfetch(), "--from", str(uris), *output], environment, objects)
                _time("its listing, by obstore", listing, environment, objects)
    except ServerFailedError as error:
        print(f"  left out: {error}")


def _beside(top: Path, prefix: str, environment: dict[str, str], objects: int) -> None:
    """What s5cmd takes for the same objects, told every key, where it is installed."""
    s5cmd = _s5cmd()
    if s5cmd is None:
        return
    output, copies = top / "s5", top / "copies"
    output.mkdir()
    copies.write_text("".join(f"cp {prefix}{number:08}.jpg {output}/\n" for number in range(objects)))
    endpoint = environment["ASYNCFETCH_ENDPOINT_URL"]
    arguments = [s5cmd, "--endpoint-url", endpoint, "--log", "error", "run", str(copies)]
    _time("s5cmd, cold", arguments, environment, objects)
    _same(top / "root" / BUCKET / "photos", output)


def _same(served: Path, output: Path) -> None:
    """Raises where not every file that is served is there (`OSError`), byte for byte (`AssertionError`)."""
    for path in served.iterdir():
        copy = output / path.name
        assert copy.read_bytes() == path.read_bytes(), f"{copy} is not what was served"


def _late(top: Path, objects: int) -> None:
    print(f"{objects:,} objects, each answer {LATE * 1000:.0f} ms late")
    bodies = {f"photos/{number:08}.jpg": os.urandom(BODY) for number in range(objects)}
    with FaultServer(bodies, faults=Faults(slow=1.0, slow_seconds=LATE)) as server:
        environment = _environment(server.endpoint_url, top)
        (top / "boto").mkdir()
        _time("asyncfetch", [*_asyncfetch(), server.uri(), "-yq", "-o", str(top / "late")], environment, objects)
        some = max(1, objects // 10)
        _time("boto3, one by one", [sys.executable, "-c", _BOTO, str(some), str(top / "boto")], environment, some)


def _plan(top: Path, rows: int) -> None:
    print(f"a list of {rows:,} rows")
    path = top / "long.csv"
    with path.open("w") as file:
        file.write("key,label\n")
        file.writelines(f"s3://bucket/photos/{number % 1000:04}/{number:08}.jpg,x\n" for number in range(rows))
    _time("planned", [sys.executable, "-c", _PLAN, str(path), str(rows)], dict(os.environ), rows)


def _asyncfetch() -> list[str]:
    return [sys.executable, "-m", "asyncfetch", "download"]


def _environment(endpoint_url: str, top: Path) -> dict[str, str]:
    return {
        **os.environ,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "ASYNCFETCH_ENDPOINT_URL": endpoint_url,
        "ASYNCFETCH_CACHE_DIR": str(top / "cache"),
    }


def _s5cmd() -> str | None:
    from bench.rows.s5cmd import program

    try:
        return program()
    except FileNotFoundError:
        return None


def _time(title: str, command: list[str], environment: dict[str, str], objects: int) -> None:
    """Runs a command, and prints the time it took, with that of its start."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env=environment)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"  {title:24} {wall:7.2f} s  CPU {used:7.2f} s  {objects / wall:10,.0f}/s", flush=True)


if __name__ == "__main__":
    heed()
    main()
