"""The bench of a consumer that is busy in bursts."""

from __future__ import annotations

import json

import pytest

from bench import bursts

pytestmark = pytest.mark.usefixtures("scratch")


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("scratch")))


def test_each_kind_has_a_rate_with_pauses_and_without(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        bursts.main(
            ["--images", "12", "--batch", "2", "--rounds", "1", "--workers", "1", "--kinds", "batches,bytes,entries"]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"batches", "bytes", "entries"}
    for kind in found.values():
        assert kind["part"] > 0
        assert kind["rate_free"] > 0


def test_a_consumer_pauses_after_each_burst_but_the_last() -> None:
    consumer = bursts._Consumer(24, 3, 1.5)
    assert [consumer.took(3) for _ in range(8)] == [0, 0, 0, 1.5, 0, 0, 0, 0]
