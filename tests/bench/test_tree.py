"""The CPU of a process tree against what its processes say they used, and its memory against what they hold."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from bench import tree

# Burns in two threads, in a child that lives on, in one that ends, and in a grandchild that ends; each says what it
# used, on its own clock. Then it waits, so that the figures stand still while they are compared.
_BURNER = textwrap.dedent(
    """
    import subprocess, sys, threading, time

    BURN = "import time\\nwhile time.process_time() < 0.15: pass\\n"
    SAY = "print(time.process_time(), flush=True)\\n"

    def burn(seconds):
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    threads = [threading.Thread(target=burn, args=(0.1,)) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    ended = subprocess.run([sys.executable, "-c", BURN + SAY], capture_output=True, text=True)
    nested = BURN + "import subprocess, sys\\n" + (
        f"inner = subprocess.run([sys.executable, '-c', {BURN + SAY!r}], capture_output=True, text=True)\\n"
        "print(float(inner.stdout) + time.process_time(), flush=True)\\n"
        "sys.stdin.read()\\n"
    )
    living = subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    below = float(ended.stdout) + float(living.stdout.readline())
    print(time.process_time(), below, flush=True)
    sys.stdin.read()
    """
)
# What a process uses after it has looked at its clock for the last time: to print, to end, to begin to wait.
_AFTERWARDS = 0.1


@pytest.fixture
def burner() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _BURNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        yield process
        os.killpg(process.pid, 9)


def test_the_cpu_of_a_tree_is_what_its_processes_say_they_used(burner: subprocess.Popen[str]) -> None:
    assert burner.stdout is not None
    own, below = map(float, burner.stdout.readline().split())
    read = tree.cpu(burner.pid)
    assert own <= read.own <= own + _AFTERWARDS
    # 10 ms for each of the three processes below that the kernel counts in ticks.
    assert own + below - 0.03 <= read.tree <= own + below + 3 * _AFTERWARDS
    assert below > 0.4  # two threads' work apart, three processes burnt


def test_what_a_child_used_counts_here_once_it_was_waited_for() -> None:
    before = tree.cpu()
    code = "import time\nwhile time.process_time() < 0.2: pass\nprint(time.process_time())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = tree.cpu()
    below = (after.tree - after.own) - (before.tree - before.own)
    assert float(said.stdout) - 0.01 <= below <= float(said.stdout) + _AFTERWARDS


def test_memory_is_that_of_the_whole_tree() -> None:
    size = 96 << 20
    inner = f"a = bytearray({size})\na[::4096] = b'1' * len(a[::4096])\nprint(1, flush=True)\ninput()"
    outer = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen([sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert size <= tree.memory(process.pid) <= size + (64 << 20)


def test_of_a_process_that_ended_there_is_no_memory() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert tree.memory(ended.pid) == 0
