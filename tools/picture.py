"""Makes the README's picture of a report, `docs/report.png`: `make picture`, or `python tools/picture.py REPORT.json`.

Without a report it profiles the sample photographs first, which takes a minute and a half. Of a comparison of
strategies (`greenload compare --json FILE`, or the first one of `bench.compare`) it makes `docs/comparison.png`. The
page is drawn by the browser that the tests use.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORT, COMPARISON = ROOT / "docs" / "report.png", ROOT / "docs" / "comparison.png"
LAST_PARTS = {
    REPORT: "document.getElementById('power')",
    COMPARISON: "[...document.querySelectorAll('h2')].find((head) => head.textContent === 'Score against cost')",
}
"""Something in the last part of the page that a picture shows."""
LIMIT_BYTES = 250_000
"""More would weigh on everyone who opens the README."""
COLOURS = 64
"""The page's few colours and the edges of its letters; chosen by eye."""
WIDTH, SCALE = 1060, 1.5

sys.path.insert(0, str(ROOT / "tests" / "support"))


def main() -> int:
    parser = argparse.ArgumentParser(description="make docs/report.png, or docs/comparison.png")
    parser.add_argument("report", nargs="?", help="a report's or comparison's JSON; profiles data/sample if not given")
    options = parser.parse_args()
    import browser

    if browser.find() is None:
        sys.exit(f"no browser among {', '.join(browser.NAMES)}: make setup brings Chromium where it may")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(options.report) if options.report else Path(folder) / "report.json"
        if not options.report and not profile(report):
            return 1
        shown, page = Path(folder) / "shown.json", Path(folder) / "report.html"
        data = json.loads(report.read_text(encoding="utf-8"))
        if "comparisons" in data:  # of bench.compare
            data = data["comparisons"][0]["comparison"]
        shown.write_text(json.dumps(data), encoding="utf-8")
        command = [sys.executable, "-m", "greenload.cli", "report", str(shown), "--html", str(page)]
        if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
            return 1  # the command has said why
        file = COMPARISON if data.get("schema", "").startswith("greenload.compare/") else REPORT
        picture = draw(page, LAST_PARTS[file])
    smaller = reduced(picture)
    if len(smaller) > LIMIT_BYTES:
        sys.exit(f"the picture has {len(smaller):,} bytes, more than {LIMIT_BYTES:,}: show less of the page")
    file.write_bytes(smaller)
    print(f"{file}: {len(smaller):,} bytes")
    return 0


def profile(report: Path) -> bool:
    """A new profile of the sample photographs; whether it worked, the command has said why not."""
    command = ["profile", "imagenet:train", "--data", "data/sample", "--json", str(report)]
    return subprocess.run([sys.executable, "-m", "greenload.cli", *command], cwd=ROOT).returncode == 0


def draw(page: Path, last: str) -> bytes:
    """The page from its top to the end of the part that has ``last`` in it, as PNG."""
    import browser

    with browser.browser() as drawn:
        drawn.look((WIDTH, 900), scale=SCALE)
        drawn.open(page)
        bottom = drawn.run(f"{last}.closest('section').getBoundingClientRect().bottom")
        return drawn.picture(clip=(0, 0, WIDTH, float(bottom) + 16))


def reduced(picture: bytes) -> bytes:
    """The picture with a palette."""
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    file = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
