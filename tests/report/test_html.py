"""The page: everything escaped, nothing fetched, and drawn without an error by a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from greenload.energy.figures import Figure
from greenload.errors import ReportError
from greenload.report.data import Report, Skipped

pytest.importorskip("jinja2")
pytest.importorskip("plotly")

from greenload.report.html import html

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=NetworkTimeServiceQuerying",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
    "--virtual-time-budget=4000",
)


class Elements(HTMLParser):
    """Start tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_holds_no_reference_to_anything_outside(measured: Report) -> None:
    elements = Elements(html(measured))
    for tag, attributes in elements.tags:
        assert tag not in ("iframe", "object", "embed", "img", "base"), tag
        for name in ("src", "href", "action", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    policy = next(one for tag, one in elements.tags if one.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_names_are_text_never_markup(hostile: Report) -> None:
    page = html(hostile)
    page.encode("utf-8")
    elements = Elements(page)
    assert [tag for tag, _ in elements.tags].count("script") == 2
    assert not any(tag in ("img", "b") and "onerror" in attributes for tag, attributes in elements.tags)
    assert "<script>document.title='hacked'</script>" in elements.text, "shown as it is called"
    assert "\x1b" not in page


def test_labels_of_charts_are_escaped_for_plotlys_own_markup(hostile: Report) -> None:
    found = re.search(r"^const charts = (.*);$", html(hostile), re.MULTILINE)
    assert found is not None
    label = json.loads(found[1])[0]["labels"][0]
    assert label.startswith("&lt;/script&gt;&lt;img") and "<" not in label.replace("<br>", "")


def test_the_page_says_what_the_table_says(measured: Report, unexplained: Report) -> None:
    words = Elements(html(unexplained)).text
    assert words.index("Unattributed: 17 % of the CPU seconds") < words.index("512 samples")
    words = Elements(html(measured)).text
    assert "Unattributed:" not in words
    for expected in (
        "imagenet:train",
        "AMD EPYC 7B13",
        "unresolved",
        "storage mJ, modelled ±72 %",
        "idle floor",
        "Cache",
    ):
        assert expected in words


def test_what_is_measured_leads(measured: Report, modelled: Report) -> None:
    page = html(measured)
    assert page.index('id="energy-chart"') < page.index('id="cpu-chart"')
    page = html(modelled)
    assert page.index('id="cpu-chart"') < page.index('id="energy-chart"')
    assert "no RAPL zone" in page and "run on bare metal" in page


def headline(report: Report) -> list[tuple[str, str, str]]:
    return re.findall(r'class="card"><small>(.*?)</small><b>(.*?)</b><small>(.*?)</small>', html(report))


def test_a_gpus_counter_does_not_stand_for_the_processor(gpu_only: Report) -> None:
    """An idle GPU's joules are measured, and say nothing about the pipeline."""
    first, second, *_ = headline(gpu_only)
    assert first[0] == "CPU time per image"
    total = sum(one.value or 0.0 for one in gpu_only.total.energy_j_per_sample.values()) * 1e3
    assert float(second[1].split()[0]) == pytest.approx(total, rel=0.02) and total > 25
    assert "cpu modelled ±40 %, dram modelled ±40 %, gpu measured, storage modelled ±72 %" in second[2]
    page = html(gpu_only)
    assert page.index('id="cpu-chart"') < page.index('id="energy-chart"')
    assert "joules of gpu; the processor has no readable counter, so CPU seconds come first" in page


def test_the_headline_sums_all_domains(measured: Report) -> None:
    first = headline(measured)[0]
    total = sum(one.value or 0.0 for one in measured.total.energy_j_per_sample.values()) * 1e3
    assert first[0] == "Energy per image" and float(first[1].split()[0]) == pytest.approx(total, rel=0.02)
    assert "cpu measured, dram measured, gpu measured, storage modelled ±72 %" in first[2]
    energy = {**measured.total.energy_j_per_sample, "gpu:0": Figure.missing()}
    total_without = replace(measured.total, energy_j_per_sample=energy)
    first = headline(replace(measured, total=total_without))[0]
    assert "gpu unknown and left out" in first[2] and "–" not in first[1]


def test_records_left_out_and_the_page_cache_are_said(measured: Report) -> None:
    skipped = tuple(Skipped(f"{index}.jpg", "truncated") for index in range(9))
    full = replace(measured.full, device_bytes_per_sample=Figure(0.0, 0.0, 0.0, "measured"))
    words = Elements(html(replace(measured, skipped=skipped, full=full))).text
    assert "Left out 0.jpg" in words and "4.jpg" in words and "5.jpg" not in words
    assert "… and 4 more (in the JSON)" in words
    assert "Files were read from the page cache" in words
    assert "page cache" not in Elements(html(measured)).text


def test_a_missing_library_is_one_line_with_the_remedy(measured: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ReportError, match=r"jinja2 is missing: pip install 'greenload\[report\]'"):
        html(measured)


def browse(page: str, folder: Path) -> tuple[str, str, set[str]]:
    """The document after its scripts ran, the browser's log, and the URLs that the page requested."""
    file, log = folder / "report.html", folder / "net.json"
    file.write_text(page, encoding="utf-8")
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--dump-dom"]
    done = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=90, check=True)
    events = json.loads(log.read_text())["events"]
    requests = [event["params"] for event in events if "initiator" in event.get("params", {})]
    # What the browser asks on its own account, such as the time, has no origin.
    urls = {one["url"] for one in requests if one["initiator"] != "not an origin"}
    return done.stdout, done.stderr, urls


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("name", ["measured", "modelled", "hostile"])
def test_a_browser_draws_it_without_an_error_or_a_request(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    report: Report = request.getfixturevalue(name)
    document, log, urls = browse(html(report), tmp_path)
    assert "CONSOLE" not in log, [line for line in log.splitlines() if "CONSOLE" in line]
    assert not {url for url in urls if url.startswith(("http", "ws", "ftp"))}
    for chart in ("cpu-chart", "energy-chart"):
        part = document[document.index(f'id="{chart}"') :]
        assert part.index('class="main-svg"') < part.index("</section>")
    bars = len(re.findall(r'class="point"', document))
    assert bars >= 2 * len(report.steps)
    hatched = len(re.findall(r"<pattern ", document))
    assert hatched >= 1, "modelled bars are hatched"
    assert "<title>hacked</title>" not in document


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_the_browser_check_sees_errors_and_requests(tmp_path: Path) -> None:
    """The test above would notice: an error in the console, and an image from elsewhere."""
    _, log, urls = browse("<script>nothing()</script><img src='http://example.com/x.png'>", tmp_path)
    assert "CONSOLE" in log
    assert "http://example.com/x.png" in urls
