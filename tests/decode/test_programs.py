"""Programs of every kind can use a pool, since workers never import them again: unguarded, from stdin, interactive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from asyncfetch.decode.starting import _BOOTSTRAP
from tests.decode.parts import environment, has_ended, photographs, until

ROOT = Path(__file__).parents[2]

# No main guard: a worker that imported this again would print a second line, or start workers of its own.
PROGRAM = """
import asyncio
print("begins")
from pathlib import Path
from tests.decode.parts import decode, make_pool

async def main():
    pool = make_pool(2)
    images = await asyncio.gather(*[decode(pool, Path(path)) for path in {paths!r}])
    print(len(images), images[0].shape)
    {closing}
    return images

{run}
"""


def program(tmp_path: Path, *, run: str = "asyncio.run(main())", closing: str = "await pool.aclose()") -> str:
    paths = [str(path) for path in photographs(tmp_path, 20)]
    return PROGRAM.format(paths=paths, run=run, closing=closing)


def output(command: list[str], text: str | None = None) -> tuple[str, str]:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd="/", env=environment())
    return done.stdout, done.stderr


EXPECTED = ("begins\n20 (240, 320, 3)\n", "")


def test_a_script_without_a_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(program(tmp_path))
    assert output([sys.executable, str(script)]) == EXPECTED


def test_a_program_on_stdin(tmp_path: Path) -> None:
    assert output([sys.executable, "-"], program(tmp_path)) == EXPECTED


def test_a_program_on_the_command_line(tmp_path: Path) -> None:
    assert output([sys.executable, "-c", program(tmp_path)]) == EXPECTED


def test_a_prompt(tmp_path: Path) -> None:
    lines = f"exec({program(tmp_path)!r})\nprint('and on')\n"
    stdout, stderr = output([sys.executable, "-q", "-i"], lines)
    assert stdout == EXPECTED[0] + "and on\n"
    assert "Traceback" not in stderr


def test_a_loop_on_another_thread(tmp_path: Path) -> None:
    run = textwrap.dedent("""
        import threading
        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        thread.join()
    """)
    assert output([sys.executable, "-c", program(tmp_path, run=run)]) == EXPECTED


def test_a_loop_that_runs_for_ever_as_a_notebooks_does(tmp_path: Path) -> None:
    run = textwrap.dedent("""
        loop = asyncio.new_event_loop()
        images = loop.run_until_complete(main())  # one cell
        images.clear()  # another, while the loop stands
        loop.run_until_complete(main())
        loop.close()
    """)
    stdout, stderr = output([sys.executable, "-c", program(tmp_path, run=run)])
    assert (stdout, stderr) == (EXPECTED[0] + EXPECTED[0].partition("\n")[2], "")


@pytest.mark.parametrize("closing", ["await pool.aclose()", "pass"])
def test_an_exit_with_images_still_held_is_clean_closed_or_not(tmp_path: Path, closing: str) -> None:
    code = program(tmp_path, run="images = asyncio.run(main())", closing=closing)
    assert output([sys.executable, "-c", code]) == EXPECTED


def test_a_worker_loads_nothing_of_the_engine(tmp_path: Path) -> None:
    # The bootstrap up to where the work begins, then a look at what is there.
    code = _BOOTSTRAP.rpartition("main(")[0] + "import asyncfetch.decode.codecs\nprint(*sys.modules, sep='\\n')"
    stdout, _ = output([sys.executable, "-P", "-c", code, "0", "0", "1", "1", str(ROOT / "asyncfetch"), *sys.path])
    ours = {name for name in stdout.split() if name.startswith("asyncfetch.")}
    assert "cv2" in stdout.split()
    assert "asyncio" not in stdout.split()
    assert ours == {
        f"asyncfetch.{name}"
        for name in (
            "decode",
            "decode.boxes",
            "decode.codecs",
            "decode.damage",
            "decode.exif",
            "decode.fitting",
            "decode.forms",
            "decode.headers",
            "decode.jpeg",
            "decode.packing",
            "decode.reading",
            "decode.samples",
            "decode.shared",
            "decode.sniff",
            "decode.summary",
            "decode.tiff",
            "decode.wire",
            "decode.worker",
        )
    }


def test_a_name_of_ours_in_the_current_directory_is_not_taken_for_a_module(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    code = program(tmp_path)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment()
    )
    assert (done.stdout, done.stderr) == EXPECTED


async def test_ctrl_c_at_a_terminal_reaches_the_program_and_leaves_no_worker(tmp_path: Path) -> None:
    closing = "print(*[worker.pid for worker in pool._workers], flush=True); await asyncio.Event().wait()"
    running = subprocess.Popen(
        [sys.executable, "-c", program(tmp_path, closing=closing)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        env=environment(),
    )
    with running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.readline()
        workers = [psutil.Process(int(pid)) for pid in running.stdout.readline().split()]
        os.killpg(running.pid, signal.SIGINT)  # what a terminal does
        assert running.stderr.read().endswith("\nKeyboardInterrupt\n")
    assert len(workers) == 2
    await until(lambda: all(map(has_ended, workers)))
