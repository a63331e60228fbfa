"""With what a run was made."""

from __future__ import annotations

from importlib.metadata import version

from bench.machine import versions


def test_a_package_has_its_version_by_whatever_name_it_was_installed() -> None:
    found = versions({"dateutil", "moto", "nobody_has_this"})
    assert found["dateutil"] == version("python-dateutil"), "which moto brings"
    assert found["moto"] == version("moto")
    assert "nobody_has_this" not in found
