"""`asyncfetch cache pin`, `unpin` and `pins`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.kept import told
from tests.cli.terminal import asyncfetch
from tests.objects import Bucket


def test_pins_are_made_listed_and_taken_away(cached: Bucket) -> None:
    prefix, endpoint = cached.uri("photos/2024/"), cached.server.endpoint_url
    assert told("pin", prefix) == [{"uri": prefix, "endpoint": endpoint, "added": True, "blobs": 3}]
    assert told("pin", prefix)[0]["added"] is False
    assert told("pins") == [{"uri": prefix, "endpoint": endpoint}]
    assert asyncfetch("cache", "pins").out.decode() == f"{prefix}  at {endpoint}\n"
    assert {item["uri"] for item in told("ls") if item["pinned"]} == {
        *(cached.uri(f"photos/2024/{index}.jpg") for index in range(3)),
        cached.uri("photos/same.jpg"),
    }, "the last shares its bytes with one of them"
    assert told("unpin", prefix, "--endpoint-url", "http://127.0.0.1:9", code=1)[0]["removed"] == 0
    assert told("unpin", prefix) == [{"uri": prefix, "removed": 1, "blobs": 3}]
    done = asyncfetch("cache", "unpin", prefix)
    assert done.code == 1
    assert prefix in done.err
    assert told("pins") == []


def test_a_pin_holds_where_the_option_says(cached: Bucket) -> None:
    assert told("pin", cached.uri(), "--endpoint-url", "http://127.0.0.1:9/")[0] == {
        "uri": cached.uri(),
        "endpoint": "http://127.0.0.1:9",
        "added": True,
        "blobs": 0,
    }


@pytest.mark.parametrize("arguments", [["pin", "/tmp/photos"], ["pin", "s3://"], ["unpin", "s3://b/k?versionId=1"]])
def test_what_cannot_be_a_pin_is_wrong_use(cache_dir: Path, arguments: list[str]) -> None:
    done = asyncfetch("cache", *arguments, "--cache-dir", cache_dir)
    assert (done.code, done.err.count("\n"), done.out) == (2, 1, b"")
