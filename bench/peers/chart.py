"""The picture of ``docs/benchmarks.md`` from a run's JSON: ``python -m bench.peers.chart RESULTS.json PICTURE.svg``.

A bar is a contestant's CPU milliseconds an image, with its quartiles. Bars of those whose work is the same are filled,
the others are outlined, and say what differs. The colours follow the reader's light or dark mode.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from bench.peers.roster import ANTIALIASED, CACHED, OURS, STREAMING
from greenload.system import file_output

FORMAT = "greenload.bench.peers/1"
TITLES = {
    STREAMING: "From files",
    ANTIALIASED: "From files, antialiased",
    CACHED: "From memory: later epochs",
}
WIDTH, NAMES, ROW, BAR, HEAD, GAP = 940, 262, 24, 14, 34, 18
"""Pixels: of the picture, of the column of names, of a row and its bar, of a group's heading, and between groups."""
VALUES = 370
"""Pixels to the right of the longest bar, for its value and what differs."""
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
.head { font-weight: 600; font-size: 15px; }
.name { text-anchor: end; }
.ours { fill: #1a7f37; stroke: #1a7f37; }
.same { fill: #7c8ba1; stroke: #7c8ba1; }
.other { fill: none; stroke: #7c8ba1; stroke-dasharray: 3 2; }
.spread { stroke: #1f2328; stroke-width: 1.5; }
.note { fill: #59636e; }
.unit { font-weight: 400; font-size: 13px; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .ours { fill: #3fb950; stroke: #3fb950; }
  .spread { stroke: #e6edf3; }
  .note { fill: #9198a1; }
}
"""


def chart(results: Sequence[Mapping[str, Any]]) -> str:
    """The picture as SVG; a group's bars are to one scale, which differs from group to group.

    Args:
        results: ``results`` of the run's JSON, at least one.
    """
    parts: list[str] = []
    top = 0
    for group in dict.fromkeys(str(one["group"]) for one in results):
        rows = [one for one in results if one["group"] == group]
        longest = max(float(one["cpu_ms"]["high"]) for one in rows)
        unit = '<tspan class="note unit" dx="8">CPU ms an image</tspan>'
        parts.append(f'<text class="head" x="8" y="{top + 22}">{escape(TITLES.get(group, group))}{unit}</text>')
        for place, one in enumerate(rows):
            parts += _row(one, top + HEAD + place * ROW, (WIDTH - NAMES - VALUES) / longest)
        top += HEAD + len(rows) * ROW + GAP
    title = "CPU milliseconds an image, by loader; fewer are better"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}"'
    return "\n".join([f'{head} role="img">', f"<title>{title}</title>", f"<style>{STYLE}</style>", *parts, "</svg>\n"])


def _row(one: Mapping[str, Any], top: float, scale: float) -> list[str]:
    """A contestant's name, bar, quartiles, value, and what differs."""
    name, work, cpu = str(one["contestant"]), one["work"], one["cpu_ms"]
    kind = "ours" if name == OURS else "same" if work["kind"] == "same" else "other"
    median, low, high = (float(cpu[key]) * scale for key in ("median", "low", "high"))
    middle, base = top + ROW / 2, top + ROW / 2 + 4.5
    right = NAMES + max(median, high) + 8
    note = f"{work['kind']}: {work['why']}" if work["why"] else ""
    value = f'<text x="{right:.1f}" y="{base}">{cpu["median"]:#.3g} ms'
    tail = f' <tspan class="note" dx="6">{escape(note)}</tspan></text>' if note else "</text>"
    return [
        f'<text class="name" x="{NAMES - 8}" y="{base}">{escape(name)}</text>',
        f'<rect class="{kind}" x="{NAMES}" y="{middle - BAR / 2}" width="{median:.1f}" height="{BAR}"/>',
        f'<line class="spread" x1="{NAMES + low:.1f}" x2="{NAMES + high:.1f}" y1="{middle}" y2="{middle}"/>',
        value + tail,
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw it."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.chart", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="the JSON that python -m bench.peers has written")
    parser.add_argument("picture", type=Path, help="the SVG file to write")
    options = parser.parse_args(arguments)
    found = json.loads(options.results.read_text(encoding="utf-8"))
    if found.get("format") != FORMAT or not found.get("results"):
        parser.error(f"a picture needs a file of the format {FORMAT} with results, but {options.results} is none")
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    file_output.write(options.picture, chart(found["results"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
