"""The page of an optimization: what it says, in a real browser too, where nothing is asked from outside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import browser as driver
import pytest
from browser import BEYOND, CONTRAST, SPILT
from known_optimizations import DISK, PIXELS, PLANES, SMALLER, STREAMING, TODAY, optimization

from greenload.energy.figures import Figure
from greenload.optimization.chart import cost_chart, part_charts
from greenload.optimization.data import Optimization
from greenload.optimization.page import page_values

pytest.importorskip("jinja2")
needs_browser = pytest.mark.skipif(driver.find() is None, reason="needs Chromium")
HOSTILE = "<b>odd</b>native_of_a_very_long_name_without_a_blank_in_it<script>document.title='hacked'</script>"


def renamed(found: Optimization, old: str, new: str) -> Optimization:
    """The optimization with a plan of another name, wherever it stands."""
    data = json.dumps(found.to_dict()).replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1])
    return Optimization.from_dict(json.loads(data))


def streaming_alone(found: Optimization) -> Optimization:
    """Only plans that keep nothing, as of arrays."""
    left = tuple(each for each in found.candidates if each.name in (TODAY, STREAMING))
    return replace(
        found, candidates=left, winner=STREAMING, runner_up=TODAY, ties=(), pareto=(STREAMING,), held_out=(), flips=()
    )


def test_first_come_what_to_use_what_it_saves_and_what_it_holds() -> None:
    cards = page_values(optimization())["cards"]
    assert [(card["label"], card["value"]) for card in cards] == [
        ("Use", PLANES),
        ("Saves, of today's CPU seconds", "91 %"),
        ("Saves, of today's joules", "88 %"),
        ("Held in memory", "5.2 GB"),
        ("Images per second", "12,190 ±240"),
    ]
    assert cards[1]["note"] == "7,360 ±160 CPU s of 8,100 ±160 CPU s"
    assert cards[2]["note"].endswith("modelled ±50 %") and cards[3]["note"] == "8.6 GB allowed"
    first = [card["label"] for card in page_values(optimization(counted=True))["cards"]]
    assert first[1] == "Saves, of today's joules"
    unsure = optimization(saves_j=Figure(3.0, -1.0, 7.0, "measured"))
    assert "not told from today's plan" in page_values(unsure)["cards"][2]["note"]


def test_it_says_what_was_found() -> None:
    page = optimization().html()
    for said in (
        "<title>train.py:make: the plan that costs least</title>",
        "What it prepares has paid off by the end of epoch 3.",
        "it costs 60 % more; most of it in bytes from and to the device",
        "watts per GB held, 0.392 ±40 % here: from 1.42 up",
        "Cloud Carbon Footprint, average over a large cloud&#39;s servers",
        "predicted 1.65 ±0.05 CPU s, seen 1.73: outside the interval",
        "antialias moves pixels by 0.83 levels of 255 on average",
        "2 plans were priced by the table of costs, and not run",
        "pillow, streaming, 2 threads: 2.4 ms of CPU an image expected",
        "<dt>memory allowed</dt><dd>8.6 GB</dd>",
        "<dt>disk allowed</dt><dd>50.0 GB in /data/kept</dd>",
        '<th scope="row">Cache</th><td>tf</td><td>planes</td>',
        'gl.load_plan("plan.json")'.replace('"', "&#34;"),
    ):
        assert said.replace("&#34;", '"') in page.replace("&#34;", '"'), said
    assert 'role="alert"' not in page
    order = [
        page.index(text)
        for text in ("Use<", "Cost against memory held", "by part", "Why not", "Every plan that was run")
    ]
    assert order == sorted(order)


def test_what_is_not_met_is_a_warning() -> None:
    page = optimization(demand=20_000.0).html()
    assert f'role="alert">No plan meets the demand; nearest is {PLANES}: it gives 12,188 of 20,000' in page
    assert "Nearest to the demand" in page
    assert "in the Pareto set" not in page, "nothing can be chosen"
    assert f"<b>{PLANES}</b>" not in page.partition("Why not the others")[2] and f"<b>{DISK}</b>: it gives" in page


def test_points_lie_by_cost_and_memory_and_only_those_that_matter_are_named() -> None:
    found = optimization()
    chart = cost_chart(found)
    assert chart is not None and (chart.up, chart.on) == ("kJ in 90 epochs", "GB held in memory")
    assert chart.x.low == 0 == chart.y.low, "savings have their true length"
    points = {point.name: point for point in chart.points}
    assert set(points) == {TODAY, STREAMING, PLANES, PIXELS, DISK, SMALLER}
    outlay = found.best.outlay
    assert outlay is not None and outlay.energy_j.value is not None
    assert points[PLANES].left / 100 * chart.x.high == pytest.approx(5.2, rel=1e-3)
    assert points[PLANES].bottom / 100 * chart.y.high == pytest.approx(outlay.energy_j.value / 1e3, rel=1e-2)
    tags = {name: point.tag for name, point in points.items()}
    assert tags[PLANES] == "use: planes in memory" and tags[TODAY] == "today: nothing kept"
    assert tags[DISK] == "runner-up: pixels on disk" and tags[PIXELS] == "" == tags[SMALLER]
    assert points[PLANES].classes == "good chosen" and points[TODAY].classes == "today"
    assert chart.front.startswith("M") and chart.front.count("L") == len(found.pareto) - 1
    tip = points[PIXELS].tip.splitlines()
    assert tip[0] == PIXELS and tip[2] == "8.5 GB in memory" and tip[3].startswith("not chosen: it costs 70 % more")


def test_close_costs_have_a_close_axis() -> None:
    found = optimization()
    near = tuple(each for each in found.candidates if each.name in (DISK, PIXELS))
    chart = cost_chart(replace(found, candidates=near, winner=DISK, runner_up=PIXELS, pareto=(), held_out=(), flips=()))
    assert chart is not None and chart.y.low > 5.0


def test_where_nothing_is_held_there_is_no_chart_of_it() -> None:
    found = streaming_alone(optimization())
    assert cost_chart(found) is None and "Cost against memory held" not in found.html()
    assert [chart.title for chart in part_charts(found)] == ["CPU seconds", "Joules"]


def test_parts_sum_to_the_whole() -> None:
    found = optimization()
    charts = {chart.title: chart for chart in part_charts(found)}
    for title, quantity in (("Joules", "energy_j"), ("CPU seconds", "cpu_s")):
        for bar in charts[title].bars:
            whole = getattr(found.candidate(bar.label).outlay, quantity)
            factor = 1e-3 if title == "Joules" else 1.0
            width = sum(span.width for span in bar.spans) / 100 * charts[title].axis.high
            assert width == pytest.approx(whole.value * factor, abs=2e-3 * charts[title].axis.high), bar.label
    named = [name for _, name in charts["Joules"].legend]
    assert named == ["starting", "first epoch", "later epochs", "storage", "memory", "idle"]
    assert "modelled ±50 %" in charts["Joules"].bands


def test_the_table_sorts_by_numbers_that_it_shows() -> None:
    values = page_values(optimization())
    assert values["heads"][:4] == ["plan", "", "CPU s in all", "kJ in all, modelled ±71 %"]
    assert all(len(row["cells"]) == len(values["heads"]) - 1 for row in values["body"])
    row = values["body"][0]
    assert row["name"] == PLANES and row["cells"][0]["text"] == "use, Pareto"
    assert (row["cells"][1]["text"], float(row["cells"][1]["value"])) == ("738 ±15", pytest.approx(737.8, abs=0.1))
    memory = values["heads"].index("held in memory") - 1
    assert (row["cells"][memory]["text"], row["cells"][memory]["value"]) == ("5.2 GB", "5200000000.0")


def test_what_came_from_outside_is_escaped() -> None:
    page = renamed(optimization(notes=("<script>document.title = 'hacked'</script>",)), PLANES, HOSTILE).html()
    assert "<b>odd" not in page and "&lt;b&gt;odd" in page and "<script>document.title" not in page


@pytest.fixture(scope="module")
def browser() -> Iterator[driver.Browser]:
    with driver.browser() as made:
        yield made


@pytest.fixture
def show(browser: driver.Browser, tmp_path: Path) -> Callable[..., driver.Browser]:
    def opened(page: str, **look: Any) -> driver.Browser:
        browser.look(**look)
        (tmp_path / "page.html").write_text(page, encoding="utf-8")
        browser.open(tmp_path / "page.html")
        return browser

    return opened


def pages() -> Iterator[str]:
    yield optimization().html()
    yield optimization(counted=True, demand=20_000.0).html()
    yield renamed(optimization(epochs=900), PLANES, HOSTILE).html()
    yield renamed(optimization(counted=True), TODAY, HOSTILE).html()
    yield streaming_alone(optimization(ties=(DISK,))).html()


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("look", [{}, {"dark": True}, {"size": driver.PHONE}, {"size": (688, 900), "media": "print"}])
def test_it_fits_a_window_a_telephone_paper_and_the_dark(
    look: dict[str, Any], show: Callable[..., driver.Browser]
) -> None:
    for page_number, page in enumerate(pages()):
        shown = show(page, **look)
        assert shown.complaints == [] and shown.refused == [], page_number
        assert shown.run(BEYOND) == [] and shown.run(SPILT) == [], page_number
        assert shown.run("document.title") != "hacked" and shown.run(CONTRAST)[0][0] >= 4.5, shown.run(CONTRAST)
        levels = shown.run("[...document.querySelectorAll('h1, h2, h3')].map((one) => +one.tagName[1])")
        assert levels[0] == 1 and levels.count(1) == 1


@needs_browser
@pytest.mark.slow
def test_points_stand_by_cost_and_memory_and_answer_the_pointer_and_the_keys(
    show: Callable[..., driver.Browser],
) -> None:
    shown = show(optimization().html())
    boxes = shown.run(
        "Object.fromEntries([...document.querySelectorAll('.point')].map((one) => [one.dataset.tip.split('\\n')[0],"
        " one.querySelector('.dot').getBoundingClientRect().toJSON()]))"
    )
    lefts = [boxes[name]["left"] for name in (TODAY, PLANES, PIXELS)]
    tops = [boxes[name]["top"] for name in (TODAY, STREAMING, SMALLER, DISK, PLANES)]
    assert lefts == sorted(lefts) and lefts[0] < lefts[1] and tops == sorted(tops)
    shown.run("document.querySelector('.scatter').scrollIntoView({block: 'center'})")
    dot = shown.run("document.querySelector('.point.chosen .dot').getBoundingClientRect().toJSON()")
    shown.hover(dot["left"] + 6, dot["top"] + 6)
    said = shown.run("document.getElementById('tip').textContent")
    assert said.startswith(f"{PLANES}\n3.37 ±0.07 kJ") and "5.2 GB in memory" in said
    shown.hover(2, 2)
    shown.run("document.querySelector('.scatter').focus()")
    shown.press("ArrowDown")
    assert shown.run("document.getElementById('spoken').textContent").startswith(f"{PLANES}\n")


@needs_browser
@pytest.mark.slow
def test_a_head_sorts_the_table_and_the_charts_change(show: Callable[..., driver.Browser]) -> None:
    shown = show(optimization().html())
    names = "[...document.querySelectorAll('.sortable tbody th')].map((one) => one.textContent)"
    assert shown.run(names)[:3] == [PLANES, DISK, TODAY]
    shown.run("document.querySelectorAll('.sortable thead button')[2].click()")
    assert shown.run(names) == [PLANES, DISK, PIXELS, SMALLER, STREAMING, TODAY], "by CPU seconds"
    visible = (
        "[...document.querySelectorAll('#cpu-chart, #energy-chart')].filter((one) => one.checkVisibility())"
        ".map((one) => one.id)"
    )
    assert shown.run(visible) == ["cpu-chart"]
    shown.run("document.getElementById('show-1').click()")
    assert shown.run(visible) == ["energy-chart"]
