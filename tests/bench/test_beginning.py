"""A program's first batch: nothing but a batch is taken for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.rows.beginning import beginning
from tests.bench.test_process import job

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "print(1, 2, 3)", "pass"])
def test_a_program_without_a_batch_has_no_figure(tmp_path: Path, program: str) -> None:
    with beginning(program)(job(tmp_path)) as work, pytest.raises(RuntimeError, match="a program ended with"):
        work()


def test_a_program_that_ends_badly_behind_its_batch_has_shown_nothing(tmp_path: Path) -> None:
    program = "print(1, 224, 224, 3); print('[\"00\"]', flush=True); raise SystemExit(4)"
    with beginning(program)(job(tmp_path)) as work:
        done = work()
        assert done.objects == 1
        with pytest.raises(RuntimeError, match="ended with 4"):
            list(done.prove())
