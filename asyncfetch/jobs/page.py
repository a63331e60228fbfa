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
        ("size", _decimal(run["bytes"])),
        ("time", f"{run['seconds']:,.1f} s"),
        ("rate", f"{_decimal(run['bytes'] / max(run['seconds'], 1e-9))}/s"),
        ("downloaded", f"{run['downloaded']:,}"),
        ("were there", f"{plan['done']:,}"),
        ("failed", _bad(run["failed"])),
        ("missing", _bad(plan["missing"])),
        ("ambiguous", _bad(plan["unclear"])),
        ("removed", f"{run['removed']:,}"),
    ]
    series = report["bytes_by_time"]
    width = series["seconds"]
    speeds = [
        (f"{place * width} s", f"{_decimal(count / width)}/s", count) for place, count in enumerate(series["bytes"])
    ]
    sizes = [(_binary(size), f"{count:,} files", count) for size, count in _gapless(report["files_by_size"])]
    latencies = [(_time(ms), f"{count:,} files", count) for ms, count in _gapless(report["files_by_milliseconds"])]
    return "\n".join(
        [
            begun(report["title"], _STYLE),
            f"<h1>{escape(report['title'])}</h1>",
            f"<p>{report['began']} to {report['ended']}. "
            + ("Done." if done else f'<b class="bad">{escape("Stopped: " + run["stopped"])}</b>')
            + f" {escape(report['verdict']['sentence'])}</p>",
            "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in counts) + "</dl>",
            _failures(report["failures"]),
            "<h2>Throughput over time</h2>",
            _bars(speeds),
            "<h2>Sizes, files from so many bytes on</h2>",
            _bars(sizes),
            "<h2>Latencies, files that took so long and longer from being asked for to being in place</h2>",
            _bars(latencies),
            _sheet(pictures),
            "</body></html>\n",
        ]
    )


_LABELS = 12  # of a histogram, which is 60 rem wide

_STYLE = """
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; } h2 { font-size: 1rem; margin-top: 2rem; }
.bars { display: flex; height: 8rem; background: var(--sunk); margin-bottom: 2.2rem;
border-bottom: 1px solid var(--line); }
.bars div { flex: 1 1 0; max-width: 5rem; min-width: 0; display: flex; flex-direction: column;
justify-content: flex-end; }
.bars i { background: var(--accent); margin-right: 10%; } .bars div:hover i { background: var(--mark); }
.bars small { height: 0; white-space: nowrap; color: var(--dim); font-size: .75em; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .3rem 1.2rem .3rem 0; vertical-align: top;
border-top: 1px solid var(--line); } td:last-child { overflow-wrap: anywhere; } td:nth-child(2) { text-align: right; }
b.bad { color: var(--mark); } figure { display: inline-block; margin: 0 .5rem .5rem 0; width: 128px; }
img { max-width: 128px; max-height: 128px; } figcaption { font-size: .7em; overflow-wrap: anywhere; color: var(--dim); }
"""


def _bars(columns: Sequence[tuple[str, str, int]]) -> str:
    """A histogram of columns: where each begins, what the mouse is told over it, and how high it is."""
    most = max((count for *_, count in columns), default=0)
    if not most:
        return "<p>Nothing was fetched.</p>"
    step = -(-len(columns) // _LABELS)
    drawn = "".join(
        f'<div title="{escape(begin)}: {escape(text)}"><i style="height: {100 * count / most:.2f}%"></i>'
        f"<small>{'' if place % step else escape(begin)}</small></div>"
        for place, (begin, text, count) in enumerate(columns)
    )
    highest = next(text for _, text, count in columns if count == most)
    return f'<p>at most {escape(highest)}</p><div class="bars">{drawn}</div>'


def _bad(count: int) -> str:
    return f'<b class="bad">{count:,}</b>' if count else "0"


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


def _binary(count: int) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count} {unit}"
        count //= 1024
    return f"{count} TiB"


def _decimal(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _time(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.3g} s"
