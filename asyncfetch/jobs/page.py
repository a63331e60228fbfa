"""The report of a job as one page of HTML that needs nothing else. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from asyncfetch.jobs.html import begun, embedded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncfetch.jobs.html import Picture


def page(report: dict[str, Any], pictures: Sequence[Picture]) -> str:
    """Makes the page of what `report.json` holds. Nothing in it is loaded from elsewhere, and no script runs."""
    plan, run = report["plan"], report["run"]
    done = run["stopped"] is None
    counts = [
        ("files fetched", f"{run['files']:,}"),
        ("bytes", f"{run['bytes']:,}"),
        ("seconds", f"{run['seconds']:,.1f}"),
        ("downloaded", f"{run['downloaded']:,}"),
        ("were there", f"{plan['done']:,}"),
        ("failed", f"{run['failed']:,}"),
        ("missing", f"{plan['missing']:,}"),
        ("ambiguous", f"{plan['unclear']:,}"),
        ("removed", f"{run['removed']:,}"),
    ]
    series = report["bytes_by_time"]
    width = series["seconds"]
    speeds = [
        (f"{place * width} s: {count / width / 1e6:,.1f} MB/s", count) for place, count in enumerate(series["bytes"])
    ]
    sizes = [(f"from {_bytes(size)}: {count:,} files", count) for size, count in _gapless(report["files_by_size"])]
    latencies = [(f"from {ms} ms: {count:,} files", count) for ms, count in _gapless(report["files_by_milliseconds"])]
    return "\n".join(
        [
            begun(report["title"], _STYLE),
            f"<h1>{escape(report['title'])}</h1>",
            f"<p>{report['began']} to {report['ended']}. "
            + ("Done." if done else f"<b>Stopped: {escape(run['stopped'])}</b>")
            + f" {escape(report['verdict']['sentence'])}</p>",
            "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in counts) + "</dl>",
            "<h2>Throughput over time</h2>",
            _bars(speeds),
            "<h2>Sizes</h2>",
            _bars(sizes),
            "<h2>Latencies, from being asked for to being in place</h2>",
            _bars(latencies),
            _failures(report["failures"]),
            _sheet(pictures),
            "</body></html>\n",
        ]
    )


_STYLE = """
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; } h2 { font-size: 1rem; margin-top: 2rem; }
svg { width: 100%; height: 8rem; background: var(--sunk); } rect { fill: var(--accent); }
table { border-collapse: collapse; } td, th { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top;
overflow-wrap: anywhere; } figure { display: inline-block; margin: 0 .5rem .5rem 0; width: 128px; }
img { max-width: 128px; max-height: 128px; } figcaption { font-size: .7em; overflow-wrap: anywhere; color: var(--dim); }
"""


def _bars(columns: Sequence[tuple[str, int]]) -> str:
    """A histogram; the text of a column shows where the mouse is."""
    most = max((count for _, count in columns), default=0)
    if not most:
        return "<p>Nothing was fetched.</p>"
    drawn = "".join(
        f'<rect x="{place}" y="{100 - 100 * count / most:.2f}" width=".9" height="{100 * count / most:.2f}">'
        f"<title>{escape(text)}</title></rect>"
        for place, (text, count) in enumerate(columns)
    )
    first, last = escape(columns[0][0]), escape(columns[-1][0])
    return (
        f'<svg viewBox="0 0 {len(columns)} 100" preserveAspectRatio="none" role="img">{drawn}</svg>'
        f"<p>{first} … {last}</p>"
    )


def _gapless(counts: dict[str, int]) -> list[tuple[int, int]]:
    """The counts by powers of two, with those that are zero between the first and the last."""
    powers = sorted(map(int, counts))
    if not powers:
        return []
    told, power = [], powers[0]
    while power <= powers[-1]:
        told.append((power, counts.get(str(power), 0)))
        power = power * 2 or 1
    return told


def _failures(causes: dict[str, Any]) -> str:
    if not causes:
        return ""
    rows = "".join(
        f"<tr><th>{escape(cause)}</th><td>{told['count']:,}</td><td>"
        + "<br>".join(escape(failure["message"] or failure["uri"]) for failure in told["first"])
        + "</td></tr>"
        for cause, told in causes.items()
    )
    return f"<h2>Failures by cause</h2><table>{rows}</table>"


def _sheet(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    figures = "".join(
        f'<figure><img alt="" src="{embedded(picture)}"><figcaption>{escape(picture.name)}</figcaption></figure>'
        for picture in pictures
    )
    return f"<h2>Contact sheet</h2>{figures}"


def _bytes(count: int) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count} {unit}"
        count //= 1024
    return f"{count} TiB"
