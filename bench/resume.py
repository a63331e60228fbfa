"""What a kill costs a large object: `python -m bench.resume [DIRECTORY]`.

A process that brings one object is killed about in the middle of it, and another one brings the rest. The server counts
what it has sent, so that what was on its way at the kill, and the answer that says which object it is, count as well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import signal
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from asyncfetch.settings import MIB
from asyncfetch.testing import Pause, RawRequest, ScriptedServer
from bench.ending import heed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncfetch.testing.scripted import Step

SIZE = 256 * MIB
STEP = 64 << 10  # bytes sent at once
PAUSE = 0.002  # seconds between them: 30 MB/s on each connection, so that there is a middle to be killed in
ROUNDS = 3
BODY = random.Random(1).randbytes(MIB) * (SIZE // MIB)

CHILD = """
import asyncio, sys
from asyncfetch import Access, Fetcher


async def main():
    access = Access(endpoint_url=sys.argv[1], anonymous=True, region="us-east-1")
    async with Fetcher(cache_dir=sys.argv[2], access=access) as fetcher:
        print((await fetcher.fetch("s3://bucket/large")).digest)

asyncio.run(main())
"""


class Source:
    """Answers with the object, or a range of it, and counts."""

    def __init__(self) -> None:
        self.sent = 0

    def __call__(self, request: RawRequest) -> Iterator[Step]:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.header("range") or "")
        start, stop = (int(found[1]), int(found[2]) + 1) if found else (0, SIZE)
        status = f"206 Partial Content\r\nContent-Range: bytes {start}-{stop - 1}/{SIZE}" if found else "200 OK"
        yield f'HTTP/1.1 {status}\r\nContent-Length: {stop - start}\r\nETag: "e"\r\n\r\n'.encode()
        for at in range(start, stop, STEP):
            piece = BODY[at : min(at + STEP, stop)]
            self.sent += len(piece)
            yield piece
            yield Pause(PAUSE)


async def one(directory: Path) -> dict[str, float]:
    source = Source()
    async with ScriptedServer(source) as server:

        async def child() -> asyncio.subprocess.Process:
            program = sys.executable, "-c", CHILD, server.url, str(directory)
            return await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)

        victim = await child()
        while source.sent < SIZE // 2:
            await asyncio.sleep(0.001)
        victim.send_signal(signal.SIGKILL)
        await victim.communicate()
        await server.until(lambda: server.open == 0)
        before = source.sent
        second = await child()
        await second.communicate()
        assert second.returncode == 0
    again = source.sent - SIZE
    return {"sent_before_mb": before / 1e6, "sent_again_mb": again / 1e6, "again_share": again / before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", nargs="?", help="where the cache is made; else where temporary files are")
    where = parser.parse_args().directory
    rounds = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=where) as directory:
            rounds.append(asyncio.run(one(Path(directory))))
    medians = {name: round(statistics.median(one[name] for one in rounds), 4) for name in rounds[0]}
    print(json.dumps(medians | {"object_mb": SIZE / 1e6}, indent=1))


if __name__ == "__main__":
    heed()
    main()
