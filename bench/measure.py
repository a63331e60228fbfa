"""Runs rows against each other: a process for each row and round, rounds interleaved, the order drawn anew in each."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bench import data, machine, pages, servers, tree
from bench.process import RowFailedError, RowProcess
from bench.results import Measured, Results, Round
from bench.rows import ROWS, Job
from bench.rows.__main__ import fold
from bench.rows.row import ends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.servers import Certificate, Server
    from bench.workloads import Scenario

_WARMED = 256 << 20  # bytes of anonymous memory that are touched before each row: more than the rows hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run, and where.

    `work` keeps the objects from run to run, `medium` is where caches are made, `server` a name of `servers.available`.
    """

    scenarios: Sequence[Scenario]
    rows: Sequence[str]
    rounds: int
    seed: int
    server: str
    work: Path
    medium: Path
    at_once: int


def measure(plan: Plan, told: Callable[[str], None], completed: Callable[[Results], None]) -> Results:
    """Makes the objects, starts the servers, and runs every scenario.

    `told` is given a line before each step, `completed` what there is once the last of its scenarios is complete.
    A row whose packages are not installed is named in the result as missing; one that fails has a round that says so,
    and is not run again in that scenario. Raises `ServerFailedError` without a server, `OSError` where nothing can be
    written.
    """
    missing = {name: f"{', '.join(lacking)} not installed" for name in plan.rows if (lacking := ROWS[name].missing())}
    rows = [name for name in plan.rows if name not in missing]
    if not all(one.tls for one in plan.scenarios):
        missing |= {f"{name} over plain HTTP": "it speaks TLS only" for name in rows if ROWS[name].tls_only}
    results = Results(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        settings={
            "commit": machine.commit(),
            "rounds": plan.rounds,
            "seed": plan.seed,
            "server": plan.server,
            "at_once": plan.at_once,
            "workers": machine.cores(),
            "medium": f"{plan.medium} ({machine.file_system(plan.medium)})",
            "work": f"{plan.work} ({machine.file_system(plan.work)})",
            "memory": tree.MEMORY_KIND,
        },
        machine=machine.machine(),
        versions=machine.versions({package for name in rows for package in ROWS[name].packages}),
        missing=missing,
    )
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asyncfetch-bench-")))
        certificate = servers.certificate(scratch)
        kinds = {one.workload.data for one in plan.scenarios} - {"none"}
        for kind in sorted(kinds):
            told(f"making the objects: {kind}")
            data.make(plan.work, kind, max(one.made for one in plan.scenarios if one.workload.data == kind))
        server = None
        if kinds:
            server = stack.enter_context(servers.serve(plan.server, plan.work / "objects", scratch, certificate))
            results.versions["server"] = server.name
        for scenario in plan.scenarios:
            run = _Run(plan, scenario, [row for row in rows if ROWS[row].runs(scenario)], certificate)
            if not run.rows:
                continue
            if server is not None and scenario.workload.data != "none":
                results.scenarios.append(run.measure(server, told))
            else:
                with servers.listing(scenario.objects) as pages_server:
                    results.scenarios.append(run.measure(pages_server, told))
            completed(results)
    return results


def expected(scenario: Scenario, objects: data.DataSet | None) -> str | None:
    """The proof that a row must give. For decoded images it is None: nobody knows it before a row has decoded them."""
    if objects is None:
        return fold((key, str(size)) for key, size in pages.keys(scenario.objects))
    if scenario.workload.decodes:
        return None
    if scenario.workload.name == "warm-bytes":
        return fold((item.key, ends(objects.path(item).read_bytes()).hex()) for item in objects.items)
    return fold((item.key, item.digest) for item in objects.items)


class _Run:
    """One scenario: in each round every row once."""

    def __init__(self, plan: Plan, scenario: Scenario, rows: Sequence[str], certificate: Certificate) -> None:
        self.rows = rows
        self._plan = plan
        self._scenario = scenario
        self._certificate = certificate
        kind = scenario.workload.data
        self._objects = None if kind == "none" else data.load(plan.work / "objects", kind, scenario.objects)

    def measure(self, server: Server, told: Callable[[str], None]) -> Measured:
        scenario, plan = self._scenario, self._plan
        measured = Measured(scenario.name, scenario.title, scenario.objects, {row: [] for row in self.rows})
        measured.expected = expected(scenario, self._objects)
        broken: set[str] = set()
        for number in range(plan.rounds):
            order = [row for row in self.rows if row not in broken]
            random.Random(f"{plan.seed} {scenario.name} {number}").shuffle(order)
            for row in order:
                told(f"{scenario.name}, round {number + 1} of {plan.rounds}: {row}")
                done = self._round(row, number, server)
                measured.rows[row].append(done)
                if done.failure is not None:
                    broken.add(row)
        return measured

    def _round(self, row: str, number: int, server: Server) -> Round:
        with _directory(self._plan.work if self._scenario.on_disk else self._plan.medium) as directory:
            _warm(directory, self._objects)
            try:
                with RowProcess(row, self._job(directory, server), self._certificate.authority) as process:
                    process.answer()
                    before = _cpu(server)
                    process.go()
                    peak = process.watch()
                    server_cpu = _cpu(server) - before
                    return Round(number, **process.answer(), peak_memory=peak, server_cpu=server_cpu)
            except RowFailedError as error:
                return Round(number, failure=str(error))

    def _job(self, directory: Path, server: Server) -> Job:
        scenario, tls = self._scenario, self._scenario.tls
        return Job(
            workload=scenario.workload.name,
            kind=scenario.workload.data,
            count=scenario.objects,
            made=scenario.made,
            root="" if self._objects is None else str(self._objects.root),
            endpoint=(server.tls if tls else server.plain) or "",
            authority=str(self._certificate.authority) if tls else None,
            directory=str(directory),
            at_once=self._plan.at_once,
            workers=machine.cores(),
        )


def _cpu(server: Server) -> float:
    return sum(tree.cpu(pid).tree for pid in server.pids)


@contextmanager
def _directory(medium: Path) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="asyncfetch-bench-", dir=medium))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _warm(directory: Path, objects: data.DataSet | None) -> None:
    """Touches as much memory and storage as a row will: a virtual machine charges who does so first (2.5 CPU-s/GB)."""
    block = bytearray(_WARMED)
    pages_of_it = len(range(0, _WARMED, os.sysconf("SC_PAGE_SIZE")))
    block[:: os.sysconf("SC_PAGE_SIZE")] = b"\1" * pages_of_it
    if objects is not None:
        scratch = directory / "warm-up"
        with scratch.open("wb") as file:
            for start in range(0, objects.bytes, _WARMED):
                file.write(memoryview(block)[: min(_WARMED, objects.bytes - start)])
        scratch.unlink()
