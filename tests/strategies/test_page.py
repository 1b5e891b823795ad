"""The page of a comparison: what it says, in a real browser too, where nothing is asked from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import browser as driver
import pytest
from browser import BEYOND, CONTRAST, SPILT
from known_comparisons import card, comparison, dearer, figure, unscored

import greenload as gl
from greenload.report.checks import Check
from greenload.strategies.changes import changes, changes_html
from greenload.strategies.data import Comparison
from greenload.strategies.page import own_stages, page_values, stage_text

pytest.importorskip("jinja2")
needs_browser = pytest.mark.skipif(driver.find() is None, reason="needs Chromium")
HOSTILE = "<b>mix</b>up_of_a_very_long_name_without_a_blank_in_it"


def renamed(made: Comparison, old: str, new: str) -> Comparison:
    """The comparison with a strategy of another name."""

    def named(text: str) -> str:
        return new if text == old else text

    return replace(
        made,
        cards=tuple(replace(each, strategy=named(each.strategy)) for each in made.cards),
        runs=tuple(replace(each, strategy=named(each.strategy)) for each in made.runs),
        pareto=tuple(map(named, made.pareto)),
        steps_up=tuple(replace(each, lower=named(each.lower), upper=named(each.upper)) for each in made.steps_up),
        ties=tuple(replace(each, a=named(each.a), b=named(each.b)) for each in made.ties),
        limits=tuple(replace(each, strategy=named(each.strategy)) for each in made.limits),
        recommended=None if made.recommended is None else named(made.recommended),
        pictures={named(name): images for name, images in made.pictures.items()},
    )


def test_it_says_what_was_found() -> None:
    page = comparison().html()
    for said in (
        "trivial is tied with the best score and costs least of those.",
        "about 27 more seeds of both would part them",
        "exceeded: energy&lt;=1.2*plain, found 1500 (1490 to 1510)",
        "1 run failed",
        "<dt>loader&#39;s part of CPU</dt><dd>25 %</dd>",
        "slower than the model asks for",
        "MixUp(alpha=0.2, num_classes=10)",
        "no stage that the others lack",
        "joules are those of the whole package.",
        "<dt>budget, seconds</dt><dd>900.0</dd>",
        "<dt>evaluate</dt><dd>train.accuracy 12ab</dd>",
    ):
        assert said in page, said
    assert "It was stopped" not in page and "It was stopped" in comparison(finished=False).html()


def test_pictures_come_first_and_are_the_comparisons_own() -> None:
    page = comparison().html()
    assert page.count('src="data:image/png;base64,') == 4 * 6
    assert page.index("What they do to images") < page.index("Score against cost") < page.index("All figures")
    assert "What they do to images" not in comparison(pictures={}).html()


def test_costs_alone_make_a_page() -> None:
    values = page_values(unscored())
    assert values["chart"] is None and values["cards"] == []
    assert values["reason"] == "No recommendation: no strategy was scored"
    page = unscored().html()
    assert "Score against cost" not in page and "What loading costs, by step" in page


def test_without_a_recommendation_no_row_is_empty_and_runs_that_were_asked_for_are_named() -> None:
    assert '<div class="cards">' not in unscored().html() and '<div class="cards">' in comparison().html()
    asked = unscored()
    assert page_values(asked)["subject"].endswith("no run has ended")
    assert page_values(replace(asked, settings={"same": {"evaluate": ""}}))["subject"].endswith("was asked for")


def test_what_is_below_zero_has_no_bar_and_is_named() -> None:
    first, second = card("plain").steps
    odd = replace(second, name="Batch", cpu_s_per_sample=figure(-0.03e-3, 0.05e-3))
    made = comparison(cards=(card("plain", steps=(first, odd)), *comparison().cards[1:]))
    chart = page_values(made)["step_charts"][0]
    zero = chart.axis.percent(0.0)
    assert zero == 0 and len(chart.bars[0].spans) == 1 and all(s.left >= zero for s in chart.bars[0].spans)
    assert page_values(made)["below_zero"] == "Batch of plain" and "Batch of plain." in made.html()
    assert page_values(comparison())["below_zero"] == ""


def test_the_best_itself_is_not_called_tied_with_the_best() -> None:
    badges = {each["strategy"]: each["badges"] for each in page_values(comparison())["strategies"]}
    assert badges["randaugment"] == ["best mean score"] and badges["trivial"][-1] == "≈ best score"
    page = comparison().html()
    assert "though their intervals here overlap" in page and "Dotted: modelled" in page


def test_the_table_sorts_by_numbers_that_it_shows() -> None:
    values = page_values(comparison())
    assert values["heads"][:3] == ["strategy", "score", "J a training"]
    assert values["heads"][-1] == "cpu mJ/image, modelled ±40 %"
    row = values["body"][1]
    assert row["name"] == "trivial" and len(row["cells"]) == len(values["heads"]) - 1
    assert (row["cells"][1]["text"], float(row["cells"][1]["value"])) == ("1,100 ±20", 1100.0)
    assert page_values(unscored())["body"][0]["cells"][0] == {
        "value": "",
        "text": "–",
        "kind": "",
        "hint": "not measured",
    }


def test_a_stage_is_shown_as_it_is_written() -> None:
    stages: list[gl.Stage] = [
        gl.Resize((8, 8)),
        gl.MixUp(0.2, num_classes=3),
        gl.RandomHorizontalFlip(),
        gl.RandomApply((gl.GaussianBlur(3),), 0.2),
        gl.Normalize((0.5,), (0.25,)),
    ]
    shown = [stage_text(stage.to_dict()) for stage in stages]
    assert shown[0] == "Resize(size=(8, 8))" and shown[1] == "MixUp(alpha=0.2, num_classes=3)"
    assert shown[2] == "RandomHorizontalFlip()" and shown[4] == "Normalize(mean=(0.5), std=(0.25))"
    assert "GaussianBlur(" in shown[3] and "p=0.2" in shown[3]
    assert stage_text({"stage": "my.module.Own", "n": 3}) == "Own(n=3)" and stage_text({}) == "()"


def test_only_what_not_all_have_is_a_strategys_own() -> None:
    own = own_stages(comparison())
    assert own["plain"] == "" and own["mixup"] == "MixUp(alpha=0.2, num_classes=10)"
    assert own["randaugment"].startswith("RandomPosterize(bits=4), GaussianBlur(kernel_size=(3, 3)")
    odd = comparison(cards=(card("plain", pipeline={"stages": [3, None]}), card("trivial", pipeline={}), *[
        card(name) for name in ("randaugment", "mixup")]))  # fmt: skip
    assert own_stages(odd)["plain"] == ""


def test_what_came_from_outside_is_escaped() -> None:
    page = renamed(comparison(reason="<script>document.title = 'hacked'</script>"), "mixup", HOSTILE).html()
    assert "<b>mix" not in page and "&lt;b&gt;mix" in page and "<script>document.title" not in page


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
    checks = (Check("energy<=1", "exceeded", 2.0, 1.5, 2.5, 1.0, "of trivial"),)
    yield comparison(checks=checks).html()
    yield renamed(comparison(reason="<script>document.title = 'hacked'</script>"), "trivial", HOSTILE).html()
    yield renamed(comparison(finished=False), "randaugment", HOSTILE).html()
    yield unscored().html()
    after = dearer(renamed(comparison(), "plain", HOSTILE), 2.0, "mixup")
    yield changes_html(changes(comparison(), after))


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("look", [{}, {"dark": True}, {"size": driver.PHONE}, {"size": (688, 900), "media": "print"}])
def test_it_fits_a_window_a_telephone_paper_and_the_dark(
    look: dict[str, Any], show: Callable[..., driver.Browser]
) -> None:
    for number, page in enumerate(pages()):
        shown = show(page, **look)
        assert shown.complaints == [] and shown.refused == [], number
        assert shown.run(BEYOND) == [] and shown.run(SPILT) == [], number
        assert shown.run("document.title") != "hacked" and shown.run(CONTRAST)[0][0] >= 4.5, shown.run(CONTRAST)
        levels = shown.run("[...document.querySelectorAll('h1, h2, h3')].map((one) => +one.tagName[1])")
        assert levels[0] == 1 and levels.count(1) == 1


@needs_browser
@pytest.mark.slow
def test_pictures_are_drawn(show: Callable[..., driver.Browser]) -> None:
    shown = show(comparison().html())
    sizes = shown.run(
        "[...document.querySelectorAll('.samples img')].map((i) => [i.complete, i.naturalWidth, i.clientWidth])"
    )
    assert sizes == [[True, 32, 96]] * 24
    assert shown.run("document.querySelectorAll('img:not([alt])').length") == 0


@needs_browser
@pytest.mark.slow
def test_points_stand_by_score_and_cost_and_answer_the_pointer_and_the_keys(
    show: Callable[..., driver.Browser],
) -> None:
    shown = show(comparison().html())
    boxes = shown.run(
        "Object.fromEntries([...document.querySelectorAll('.point')].map((one) =>"
        " [one.textContent.trim(), one.querySelector('.dot').getBoundingClientRect().toJSON()]))"
    )
    assert list(boxes) == ["plain", "trivial ≈", "randaugment", "mixup"]
    lefts = [boxes[name]["left"] for name in ("plain", "trivial ≈", "mixup", "randaugment")]
    tops = [boxes[name]["top"] for name in ("randaugment", "trivial ≈", "mixup", "plain")]
    assert lefts == sorted(lefts) and tops == sorted(tops)
    # The error bar of a cost is as wide as its interval: 40 J where plain and randaugment are 500 apart.
    bar = shown.run("document.querySelector('.error.across').getBoundingClientRect().width")
    span = boxes["randaugment"]["left"] - boxes["plain"]["left"]
    assert bar / span == pytest.approx(40 / 500, rel=0.1)
    # The front joins plain and trivial.
    front = shown.run("document.querySelector('.scatter path').getBoundingClientRect().toJSON()")
    middle = boxes["plain"]["left"] + boxes["plain"]["width"] / 2
    assert front["left"] == pytest.approx(middle, abs=3)
    shown.run("document.querySelector('.scatter').scrollIntoView({block: 'center'})")
    dot = shown.run("document.querySelectorAll('.point .dot')[2].getBoundingClientRect().toJSON()")
    shown.hover(dot["left"] + 6, dot["top"] + 6)
    said = shown.run("document.getElementById('tip').textContent")
    assert (
        said.startswith("randaugment\nscore 0.932 ±0.004 (0.928 to 0.936), measured\ncost 1,500 ±20 J")
        and "tied with trivial" in said
    )
    shown.hover(2, 2)
    shown.run("document.querySelector('.scatter').focus()")
    shown.press("ArrowDown")
    assert shown.run("document.getElementById('spoken').textContent").startswith("plain\n")


@needs_browser
@pytest.mark.slow
def test_a_head_sorts_the_table_both_ways(show: Callable[..., driver.Browser]) -> None:
    missing = [replace(each, runs=0) for each in unscored().cards]
    shown = show(comparison().html())
    names = "[...document.querySelectorAll('.sortable tbody th')].map((one) => one.textContent)"
    head = "document.querySelectorAll('.sortable thead th')[{}]"
    assert shown.run(names) == ["plain", "trivial", "randaugment", "mixup"], "as given"
    shown.run(f"{head.format(2)}.querySelector('button').click()")
    assert shown.run(names) == ["plain", "trivial", "mixup", "randaugment"], "by joules"
    assert shown.run(f"{head.format(2)}.getAttribute('aria-sort')") == "ascending"
    shown.run(f"{head.format(2)}.querySelector('button').click()")
    assert shown.run(names) == ["randaugment", "mixup", "trivial", "plain"]
    shown.run(f"{head.format(0)}.querySelector('button').click()")
    assert shown.run(names) == ["mixup", "plain", "randaugment", "trivial"], "by name"
    assert shown.run(f"{head.format(2)}.getAttribute('aria-sort')") is None
    # One without a score stays last, whichever way.
    some = comparison(cards=(missing[0], *comparison().cards[1:]), pareto=(), steps_up=())
    shown = show(some.html())
    for expected in (["mixup", "trivial", "randaugment"], ["randaugment", "trivial", "mixup"]):
        shown.run(f"{head.format(1)}.querySelector('button').click()")
        assert shown.run(names) == [*expected, "plain"]
