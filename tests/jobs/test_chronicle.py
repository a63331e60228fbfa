"""What a run leaves behind: a log, a report for programs, a page that needs nothing else."""

from __future__ import annotations

import errno
import json
import resource
from html.parser import HTMLParser
from pathlib import Path

from asyncfetch.jobs import Chronicle, Counts, Event, Outcome, Tally
from asyncfetch.jobs.chronicle import columns
from asyncfetch.jobs.html import Picture
from asyncfetch.objects import Percentiles, Stats, Verdict

NOTHING = Percentiles(float("nan"), float("nan"), float("nan"))
STATS = Stats(
    **dict.fromkeys(Stats._fields, 0)  # type: ignore[arg-type] # the few that are no numbers come after
    | {"failures": {}, "first_byte": NOTHING, "whole_body": NOTHING}
    | {"verdict": Verdict("origin", "The <origin> was slow.")}
)
EVIL = '<script>alert("x")</script>'


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def done(number: int, size: int = 1000, name: str = "a.jpg") -> Event:
    return Event(Outcome(f"s3://b/{number}", f"{number}/{name}", size, "blake3:00", None, 1, 0.02), False)


def test_a_run_is_told_in_a_log_a_report_and_a_page(tmp_path: Path) -> None:
    with Chronicle(tmp_path, f"download {EVIL}") as chronicle:
        for number in range(500):
            chronicle.note(done(number))
        chronicle.note(done(500, 0, "empty.txt"))
        for number in range(30):
            message = f"s3://b/{number}\n{EVIL}: no such object"
            chronicle.note(Event(Outcome(f"s3://b/{number}", error="ObjectNotFound", message=message), False))
        assert len(chronicle.pictures) == 24
        assert int(chronicle.pictures[-1].partition("/")[0]) > 300, "they are from all over the run"
        tally = Tally(files=501, bytes=500_000, failed=30, seconds=1.5, stopped=EVIL)
        chronicle.finish(Counts(rows=531, todo=531), tally, STATS, [Picture(EVIL, b"\xff\xd8")])
    (log,) = (tmp_path / "logs").glob("asyncfetch-????????-??????.log")
    lines = log.read_text().splitlines()
    assert len(lines) == 533, "a line each, the first and the last"
    assert lines[1].endswith("done 0.020 s 1000 bytes from origin s3://b/0 -> 0/a.jpg")
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["run"]["files"], report["plan"]["rows"]) == (501, 531)
    assert report["files_by_size"] == {"0": 1, "512": 500}
    assert report["files_by_milliseconds"] == {"16": 501}
    assert sum(report["bytes_by_time"]["bytes"]) == 500_000
    assert report["failures"]["ObjectNotFound"]["count"] == 30
    assert len(report["failures"]["ObjectNotFound"]["first"]) == 20
    page = Tags((tmp_path / "report.html").read_text())
    assert not {"script", "link", "iframe", "origin"} & set(page.tags)
    assert all(source.startswith("data:image/webp;base64,") for source in page.sources)
    assert "<script>" in page.text, "as text"
    assert page.tags.count("i") == 1 + 11 + 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "report.html", "report.json"]


def test_a_run_in_which_nothing_happened_has_a_report_too(tmp_path: Path) -> None:
    with Chronicle(tmp_path, "download") as chronicle:
        chronicle.finish(Counts(), Tally(), STATS, [])
    assert "Nothing was fetched" in (tmp_path / "report.html").read_text()


def test_a_long_run_has_no_more_columns() -> None:
    series = columns({0: 1, 10_000: 2})
    assert (series["seconds"], len(series["bytes"]), sum(series["bytes"])) == (42, 239, 3)


def test_a_log_that_cannot_be_written_on_ends_and_the_run_does_not(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))  # bytes of a file: to it, a disk that is full
    try:
        with Chronicle(tmp_path, "download") as chronicle:
            for number in range(2000):
                chronicle.note(done(number))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert chronicle.broken is not None
    assert chronicle.broken.errno == errno.EFBIG
    (log,) = (tmp_path / "logs").iterdir()
    assert 0 < log.stat().st_size <= 1 << 16
