"""The page in a real browser: drawn, hovered, in the dark, on a telephone and on paper; nothing asked from outside."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import browser as driver
import pytest
from browser import BEYOND, CONTRAST, SPILT

from greenload.energy.figures import Figure, scale
from greenload.report.charts import timeline
from greenload.report.data import Report
from greenload.text import amount

pytest.importorskip("jinja2")

from greenload.report.html import html

pytestmark = [pytest.mark.slow, pytest.mark.skipif(driver.find() is None, reason="needs Chromium")]


@pytest.fixture(scope="module")
def browser() -> Iterator[driver.Browser]:
    with driver.browser() as made:
        yield made


@pytest.fixture
def show(browser: driver.Browser, tmp_path: Path) -> Callable[..., driver.Browser]:
    """Opens reports' page: ``show(report, dark=True)``, ``show(a, b)``."""

    def opened(*reports: Report, **look: Any) -> driver.Browser:
        browser.look(**look)
        file = tmp_path / "report.html"
        file.write_text(html(*reports), encoding="utf-8")
        browser.open(file)
        return browser

    return opened


def centre(browser: driver.Browser, selector: str, index: int = 0) -> tuple[float, float]:
    """The middle of an element, scrolled into the window."""
    one = f"document.querySelectorAll({selector!r})[{index}]"
    browser.run(f"{one}.scrollIntoView({{block: 'center'}})")
    left, top, width, height = edges(browser, one)
    return left + width / 2, top + height / 2


def edges(browser: driver.Browser, element: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of an element in the window."""
    box = browser.run(f"{element}.getBoundingClientRect().toJSON()")
    return box["left"], box["top"], box["width"], box["height"]


def tip(browser: driver.Browser) -> str | None:
    """What the hovering says, None while it is silent."""
    text = "(() => { const tip = document.getElementById('tip');"
    return browser.run(f"{text} return getComputedStyle(tip).visibility === 'visible' ? tip.textContent : null; }})()")


def test_two_kinds_of_epoch_are_two_charts_with_a_switch_each(
    cached: Report, show: Callable[..., driver.Browser]
) -> None:
    shown = show(cached)
    assert shown.complaints == [] and shown.refused == []
    assert shown.run(BEYOND) == [] and shown.run(SPILT) == []
    rows = "[...document.querySelectorAll('.epoch .panel-0')].map((one) => one.querySelectorAll('.bars li').length)"
    assert shown.run(rows) == [7, 4]
    visible = (
        "['panel-0', 'panel-1'].map((p) => [...document.querySelectorAll('.' + p)].map((x) => x.checkVisibility()))"
    )
    assert shown.run(visible) == [[True, True], [False, False]]
    shown.run("document.querySelector('label[for=show-1-later]').click()")
    assert shown.run(visible) == [[True, False], [False, True]]


@pytest.mark.parametrize("name", ["measured", "modelled", "advised", "judged", "hostile", "clocked"])
def test_it_is_drawn_without_a_complaint_or_a_request(
    name: str, request: pytest.FixtureRequest, show: Callable[..., driver.Browser]
) -> None:
    report: Report = request.getfixturevalue(name)
    shown = show(report)
    assert shown.complaints == [] and shown.refused == []
    widths = shown.run(
        "[...document.querySelectorAll('.panel-0 .bars li')].map((row) =>"
        " [...row.querySelectorAll('.seg')].reduce((sum, one) => sum + one.getBoundingClientRect().width, 0))"
    )
    assert len(widths) == len(report.steps) + 1 and max(widths) > 100
    assert shown.run("document.querySelectorAll('#power path').length") > 4
    assert shown.run("document.title") != "hacked" and shown.run("document.images.length") == 0
    lengths = [step.cpu_s_per_sample.value or 0.0 for step in report.steps]
    if name == "modelled":  # its CPU time comes first
        longest = lengths.index(max(lengths))
        assert widths[longest] / widths[1] == pytest.approx(lengths[longest] / lengths[1], rel=0.02)


def test_measured_and_modelled_look_different(show: Callable[..., driver.Browser], measured: Report) -> None:
    shown = show(measured)
    image = "getComputedStyle(document.querySelector('.seg.{}')).backgroundImage"
    assert shown.run(image.format("measured")) == "none"
    assert "repeating-linear-gradient" in shown.run(image.format("modelled"))


def test_hovering_a_bar_answers_with_its_figures(show: Callable[..., driver.Browser], modelled: Report) -> None:
    shown = show(modelled)
    assert tip(shown) is None
    shown.hover(*centre(shown, ".panel-0 .bars li", 2))
    figure = scale(modelled.steps[2].cpu_s_per_sample, 1e3)
    said = tip(shown) or ""
    assert said.startswith("RandomResizedCrop: resize\n") and f"{amount(figure)} ms" in said and "measured" in said
    assert f"({figure.low:.3g} to {figure.high:.3g})" in said
    left, top, width, height = edges(shown, "document.getElementById('tip')")
    assert left >= 0 and top >= 0 and left + width <= driver.LAPTOP[0] and top + height <= driver.LAPTOP[1]
    shown.hover(2, 2)
    assert tip(shown) is None


def test_hovering_power_answers_with_the_window_under_the_pointer(
    show: Callable[..., driver.Browser], measured: Report
) -> None:
    shown = show(measured)
    found = timeline(measured)
    assert found is not None
    start, end, said = found.tips[7]
    _, y = centre(shown, ".canvas")
    left, _, width, _ = edges(shown, "document.querySelector('.canvas')")
    shown.hover(left + width * (start + end) / 200, y)
    assert tip(shown) == said
    cursor = shown.run("getComputedStyle(document.querySelector('.cursor')).display")
    assert cursor == "block"


def test_the_keyboard_reaches_what_the_pointer_does(show: Callable[..., driver.Browser], measured: Report) -> None:
    shown = show(measured)
    for selector, expected in ((".panel-0 .bars", "Decode + crop"), ("#power", timeline(measured).tips[1][2])):  # type: ignore[union-attr]
        shown.run(f"document.querySelector('{selector}').focus()")
        shown.press("ArrowDown")
        shown.press("ArrowDown")
        assert (tip(shown) or "").startswith(expected)
        assert shown.run("document.getElementById('spoken').textContent").startswith(expected), (
            "said to a screen reader"
        )
        shown.press("Escape")
        assert tip(shown) is None


def test_the_toggle_shows_one_chart_at_a_time(show: Callable[..., driver.Browser], measured: Report) -> None:
    shown = show(measured)
    visible = "['energy-chart', 'cpu-chart'].map((id) => document.getElementById(id).checkVisibility())"
    assert shown.run(visible) == [True, False]
    shown.run("document.querySelector('label[for=show-1]').click()")
    assert shown.run(visible) == [False, True]
    shown.run("document.getElementById('show-1').focus()")
    shown.press("ArrowLeft")
    assert shown.run(visible) == [True, False], "radio buttons answer arrow keys"


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_overflows(width: int, show: Callable[..., driver.Browser], request: pytest.FixtureRequest) -> None:
    names = ("advised", "hostile", "measured", "judged")
    advised, hostile, measured, judged = (request.getfixturevalue(name) for name in names)
    long = replace(measured.steps[1], name="a_function_with_a_very_long_name_" * 4, where="/a/very/long/path" * 6)
    many = replace(measured, steps=(*(replace(long, name=f"{long.name}{k}") for k in range(40)),))
    tiny = Figure(0.119e-9, 0.101e-9, 0.137e-9, "measured")
    digits = replace(measured, steps=tuple(replace(one, cpu_s_per_sample=tiny) for one in measured.steps))
    for reports in ((advised,), (hostile,), (judged,), (many,), (digits,), (measured, advised)):
        shown = show(*reports, size=(width, 844))
        assert shown.run(SPILT) == []
        assert shown.run(BEYOND) == []
        assert shown.run("document.documentElement.scrollWidth") <= width


def test_dark_and_light_differ_and_both_can_be_read(
    show: Callable[..., driver.Browser], advised: Report, judged: Report
) -> None:
    colours = {}
    for dark in (False, True):
        shown = show(advised, dark=dark)
        colours[dark] = shown.run("getComputedStyle(document.body).backgroundColor")
        worst = shown.run(CONTRAST)
        assert worst[0][0] >= 4.5, worst
        for reports in ((advised, replace(advised, samples=1)), (judged,)):
            worst = show(*reports, dark=dark).run(CONTRAST)
            assert worst[0][0] >= 4.5, worst
    light, dark_sum = (sum(map(int, re.findall(r"\d+", colours[key])[:3])) for key in (False, True))
    assert light > 600 and dark_sum < 150


def test_paper_is_light_and_holds_both_charts(show: Callable[..., driver.Browser], measured: Report) -> None:
    shown = show(measured, dark=True, media="print")
    assert int(re.findall(r"\d+", shown.run("getComputedStyle(document.body).color"))[0]) < 60, "dark ink"
    assert shown.run("['energy-chart', 'cpu-chart'].map((id) => document.getElementById(id).checkVisibility())") == [
        True,
        True,
    ]
    assert shown.run("document.querySelector('.tabs').checkVisibility()") is False
    # A4 less its margins is 688 CSS pixels wide.
    show(measured, size=(688, 900), media="print")
    assert shown.run("document.documentElement.scrollWidth") <= 688 and shown.run(BEYOND) == []
    show(measured)
    printed = shown.pdf()
    assert printed.startswith(b"%PDF") and len(printed) > 20_000


def test_headings_and_names_serve_a_screen_reader(show: Callable[..., driver.Browser], advised: Report) -> None:
    shown = show(advised)
    seen = "[...document.querySelectorAll('h1, h2, h3')].filter((one) => one.checkVisibility())"
    levels = shown.run(f"{seen}.map((one) => +one.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1 and max(levels) <= 3
    unnamed = (
        "[...document.querySelectorAll('svg, [tabindex]')].filter((one) => !one.getAttribute('aria-label')).length"
    )
    assert shown.run(unnamed) == 0
    assert shown.run("document.documentElement.lang") == "en"


def test_two_reports_on_one_page(show: Callable[..., driver.Browser], measured: Report, modelled: Report) -> None:
    shown = show(measured, modelled)
    assert shown.complaints == [] and shown.refused == []
    shown.hover(*centre(shown, ".panel-0 .bars li", 3))
    said = tip(shown) or ""
    assert said.startswith("B: Decode + crop") and amount(scale(modelled.steps[1].cpu_s_per_sample, 1e3)) in said


def test_the_driver_sees_errors_and_requests(browser: driver.Browser, tmp_path: Path) -> None:
    """The tests above would notice: an exception, an error in the console, an image and a fetch from elsewhere."""
    file = tmp_path / "bad.html"
    file.write_text(
        "<script>console.error('oops'); fetch('http://example.com/a.json').catch(() => 0); nothing()</script>"
        "<img src='http://example.com/x.png'><div style='width: 3000px'>wide</div>"
        "<p style='color: #999; background: #fff'>faint</p>"
    )
    browser.look(driver.PHONE)
    browser.open(file)
    assert {"http://example.com/x.png", "http://example.com/a.json"} <= set(browser.refused)
    assert any("oops" in one for one in browser.complaints) and any("nothing" in one for one in browser.complaints)
    assert browser.run(BEYOND) == ["DIV."] and browser.run(CONTRAST)[0][0] < 4.5


@pytest.mark.alone
def test_a_profile_under_an_emulated_counter_makes_a_whole_page(
    show: Callable[..., driver.Browser], sample_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From real windows: start times in order, reads counted, measured joules with their idle floor, all drawn."""
    pytest.importorskip("tensorflow")
    pytest.importorskip("nvidia.dali")
    import greenload as gl
    from greenload.energy.emulators.layout import PowercapLayout
    from greenload.energy.emulators.powercap import PowercapEmulator
    from greenload.energy.meters.discover import discover
    from greenload.profiling import profile, schedule, windows

    pipeline = gl.Pipeline(gl.ImageFolder(str(sample_folder)), gl.Decode(), gl.Resize((96, 96)), gl.Batch(16))
    root = tmp_path / "powercap"
    root.mkdir()
    with PowercapEmulator(root, PowercapLayout(), pids=None):
        monkeypatch.setattr(profile, "discover", lambda **where: discover(powercap_root=root, **where))
        monkeypatch.setattr(windows, "WINDOW_S", 0.1)
        for module in (windows, schedule):
            monkeypatch.setattr(module, "BUILDS", 1)
        monkeypatch.setattr(schedule, "PASS_BUILDS", 1)
        monkeypatch.setattr(profile, "TRIED", 0)  # trials have their own tests
        report = profile.profile(pipeline, "dali-cpu", rounds=2, threads=2)
    starts = [window.start_ns for window in report.windows if window.start_ns is not None]
    assert len(starts) == len(report.windows) and starts[0] == 0 and starts == sorted(starts)
    ends = [start + window.wall_ns for start, window in zip(starts, report.windows, strict=True)]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False)), "windows don't overlap"
    package = report.full.energy_j_per_sample["cpu:package-0"]
    assert package.provenance == "measured" and package.value is not None and package.value > 0
    assert report.idle.power_w["cpu:package-0"].value is not None
    assert "cpu" not in report.full.energy_j_per_sample, "the counter's joules, not the model's"
    reads = report.steps[0].reads_per_sample
    # A file is read until nothing comes: its bytes in one call or two, and the end.
    assert reads.value is not None and 1 <= reads.value <= 4 and not reads.unresolved
    shown = show(report)
    assert shown.complaints == []
    lanes = shown.run("[...document.querySelectorAll('.lane .what')].map((one) => one.textContent)")
    assert lanes[0].startswith("cpu") and "W, measured" in lanes[0]
    assert shown.run("document.querySelector('.floor').textContent").startswith("idle floor")
    assert "reads" in shown.run("document.querySelector('table.figures').textContent")
