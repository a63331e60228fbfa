"""Who signs beside a fetcher signs by the credentials that it has found: the chain runs once for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncfetch import Fetcher
from asyncfetch.datastore import DataStore
from asyncfetch.origins.control import Control
from asyncfetch.toolbox import diagnose, presign
from tests.origins.identity import Helper, lay_home
from tests.origins.shelf import Shelf

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from asyncfetch.testing import EmbeddedS3


async def test_the_chain_runs_once_for_everything(
    moto: EmbeddedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home := tmp_path / "home").mkdir()
    lay_home(home, monkeypatch)
    helper = Helper(home)
    shelf = Shelf(moto)
    async with Fetcher(cache_dir=tmp_path / "cache", endpoint_url=moto.endpoint_url, profile="helper") as fetcher:
        async with Control(fetcher.settings, fetcher.identities) as control:
            await control.put(shelf.at("a/small"), b"small")
            await control.delete(shelf.at("a/none"))
        assert await fetcher.read_bytes(shelf.at("a/small")) == b"small"
        urls = [signed.url async for signed in presign(fetcher, [shelf.at("a/small")])]
        assert "X-Amz-Credential=ASIA1" in urls[0]
        lights = {light.name: light for light in (await diagnose(fetcher, shelf.at("a/"), write=True)).lights}
        assert (lights["credentials"].state, lights["write"].state) == ("green", "green")
        async with DataStore(shelf.name, fetcher=fetcher) as store:
            await store.store_data(b"data")
    assert helper.runs == 1
