"""Fixtures of the tests of the cache."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system whose locks do nothing: everybody seems dead to everybody."""
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
