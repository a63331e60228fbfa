"""A program that is killed in the middle of an epoch and started again, until it is through: every item exactly once.

`pytest --soak` runs it over 20,000 items and through 10 kills.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.cli.terminal import environment
from tests.soak import Soak

# One line for each item says that its work is done and where the stream is: both or, killed before, neither.
PROGRAM = """
import asyncio, json, os, sys
import asyncfetch

async def main(cache, directory, count, order, state):
    names = [f"{directory}/{index}" for index in range(count)]
    async with asyncfetch.Fetcher(cache_dir=cache) as fetcher:
        stream = fetcher.entries(names, order=order, on_error="yield", failures=f"{directory}/failures")
        stream = stream.shuffle(11)
        if state:
            stream = stream.resume(json.loads(state))
        async for item in stream:
            line = {"index": item.index, "failed": isinstance(item, asyncfetch.Failure), "state": stream.state()}
            os.write(1, json.dumps(line).encode() + b"\\n")

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]))
"""


@pytest.mark.parametrize("order", ["input", "completion"])
def test_every_item_comes_exactly_once_however_often_the_program_is_killed(
    tmp_path: Path, cache_dir: Path, soak: Soak, order: str
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for index in range(soak.epoch_items):
        if index % 10:
            (files / str(index)).touch()
    chance = random.Random(soak.epoch_kills)
    done: list[dict[str, object]] = []
    for kill in range(soak.epoch_kills + 1):
        state = json.dumps(done[-1]["state"]) if done else ""
        lines_to_go = chance.randint(1, soak.epoch_items // soak.epoch_kills - 1) if kill < soak.epoch_kills else -1
        arguments = [str(cache_dir), str(files), str(soak.epoch_items), order, state]
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, env=environment()
        ) as program:
            assert program.stdout is not None
            for line in program.stdout:
                if line.endswith(b"\n"):  # else it was killed in the middle of a word, and the work is not done
                    done.append(json.loads(line))
                lines_to_go -= 1
                if lines_to_go == 0:
                    program.kill()
        assert program.returncode == (-9 if kill < soak.epoch_kills else 0)
    assert Counter(line["index"] for line in done) == Counter(range(soak.epoch_items))
    assert [line["index"] for line in done if line["failed"]] == [
        line["index"]
        for line in done
        if line["index"] % 10 == 0  # type: ignore[operator]
    ]
    written = {json.loads(line)["index"] for line in (files / "failures").read_bytes().splitlines()}
    assert written == set(range(0, soak.epoch_items, 10)), "what failed before a kill is in the ledger all the same"
    assert max(len(json.dumps(line["state"])) for line in done) < 2000
