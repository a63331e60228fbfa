"""What a command of the cache tells programs."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.terminal import asyncfetch


def told(*arguments: object, code: int = 0) -> list[dict[str, Any]]:
    done = asyncfetch("cache", *arguments, "--json")
    assert (done.code, done.err) == (code, ""), done  # this module's assertions are not rewritten
    return [json.loads(line) for line in done.out.splitlines()]
