"""`asyncfetch cache ls --quarantined` and `cache release`."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncfetch.cache.strikes import strike
from asyncfetch.cache.upkeep import select, upkeep
from asyncfetch.settings import CachePolicy
from tests.cli.kept import told
from tests.cli.terminal import asyncfetch
from tests.objects import Bucket

GONE = "blake3:" + "ab" * 32


def test_what_is_quarantined_is_listed_and_released(cached: Bucket, cache_dir: Path) -> None:
    twins = [cached.uri("photos/2024/0.jpg"), cached.uri("photos/same.jpg")]
    with upkeep(CachePolicy(cache_dir=cache_dir)) as keeping:
        digests = {item.key.key: item.known.ref.digest for page in keeping.catalog.refs(select(None)) for item in page}
        deaths = [digests["photos/same.jpg"], GONE] * 3 + [digests["top.txt"]] * 2
        keeping.make([strike(digest, "was killed by SIGSEGV", 1_700_000_000.0) for digest in deaths])
    facts = {"deaths": 3, "last": "2023-11-14T22:13:20Z", "why": "was killed by SIGSEGV"}
    twin = {"endpoint": cached.server.endpoint_url, "digest": digests["photos/same.jpg"], **facts}
    assert told("ls", "--quarantined") == [
        *({"uri": uri, **twin} for uri in twins),
        {"uri": None, "endpoint": None, "digest": GONE, **facts},
    ]
    lines = asyncfetch("cache", "ls", cached.uri("photos/2024/"), "--quarantined").out.decode()
    said = f"{twins[0]}  3 deaths, the last was killed by SIGSEGV"
    assert lines == f"2023-11-14T22:13:20Z  {digests['photos/same.jpg']}  {said}\n"

    assert told("release", cached.uri("top.txt"), GONE) == [{"released": 1}], "two deaths are no quarantine"
    assert asyncfetch("cache", "release", twins[0]).err == "1 released: they are decoded again\n"
    done = asyncfetch("cache", "release", "--all")
    assert (done.code, done.err.count("cache ls --quarantined")) == (1, 1)


@pytest.mark.parametrize("arguments", [[], ["/tmp/photos"]])
def test_what_names_nothing_is_wrong_use(cache_dir: Path, arguments: list[str]) -> None:
    (cache_dir / "v1").mkdir(parents=True)
    assert asyncfetch("cache", "release", *arguments, "--cache-dir", cache_dir).code == 2
