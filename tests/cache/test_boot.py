"""The boot's name: the same for all processes, never nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from asyncfetch.cache import files
from asyncfetch.cache.boot import boot_id


def test_processes_of_one_boot_agree() -> None:
    program = "from asyncfetch.cache.boot import boot_id; print(boot_id())"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == boot_id()
    assert len(boot_id()) >= 32


def test_where_the_system_does_not_say_no_two_processes_trust_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sys, "platform", "linux")
    for answer in (refuse, lambda *_: None, lambda *_: b"\n"):
        monkeypatch.setattr(files, "read", answer)
        assert len({boot_id(), boot_id()}) == 2
