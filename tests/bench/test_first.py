"""The first batch of a program: it is timed, and nothing but a batch is taken for one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bench import first

if TYPE_CHECKING:
    from pathlib import Path


def test_a_program_that_gets_its_first_batch_is_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert first.main(["--rounds", "1", "--batches", "1", "--alone", "--work", str(tmp_path)]) == 0
    [(name, (median, least, most))] = json.loads(capsys.readouterr().out).items()
    assert name == "asyncfetch"
    assert 0 < least == median == most


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "print('(1, 2, 3)')", "pass"])
def test_a_program_without_a_batch_has_no_figure(program: str) -> None:
    with pytest.raises(SystemExit, match="a program ended with"):
        first._first(program, [])
