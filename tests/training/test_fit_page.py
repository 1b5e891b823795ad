"""The page of a fit in a real browser: nothing runs over, nothing is asked from outside, hovering answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import browser as driver
import pytest
from browser import BEYOND, CONTRAST, SPILT
from known_spans import fit_report

from greenload.training.fit_report import FitReport

pytest.importorskip("jinja2")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(driver.find() is None, reason="needs Chromium")]
HOSTILE = "<b>decode</b> of a very_long_name_without_a_blank_in_it"


@pytest.fixture(scope="module")
def browser() -> Iterator[driver.Browser]:
    with driver.browser() as made:
        yield made


@pytest.fixture
def show(browser: driver.Browser, tmp_path: Path) -> Callable[..., driver.Browser]:
    def opened(shown: FitReport, **look: object) -> driver.Browser:
        browser.look(**look)  # type: ignore[arg-type]
        shown.save_html(tmp_path / "fit.html")
        browser.open(tmp_path / "fit.html")
        return browser

    return opened


def test_it_fits_a_window_a_telephone_and_the_dark(show: Callable[..., driver.Browser]) -> None:
    for look in ({}, {"dark": True}, {"size": driver.PHONE}):
        shown = show(fit_report(HOSTILE, "<script>document.title = 'hacked'</script>"), **look)
        assert shown.complaints == [] and shown.refused == [], look
        assert shown.run(BEYOND) == [] and shown.run(SPILT) == [], look
        assert shown.run("document.title") != "hacked" and shown.run(CONTRAST)[0][0] >= 4.5, look
        assert shown.run("document.querySelectorAll('#power path').length") == 7, "five layers, waiting, buffers"


def test_layers_stand_on_each_other(show: Callable[..., driver.Browser]) -> None:
    shown = show(fit_report())
    boxes = shown.run(
        "[...document.querySelectorAll('.canvas.tall path')].map((one) => one.getBoundingClientRect().toJSON())"
    )
    assert len(boxes) == 5 and all(box["height"] > 1 for box in boxes)
    tops = [box["top"] for box in boxes]
    assert tops[:4] == sorted(tops[:4], reverse=True), "idle power lowest, then the steps, then the model"
    names = "[...document.querySelectorAll('.names span')].map((one) => one.textContent)"
    assert shown.run(names) == ["epoch 1", "epoch 2"]
    assert shown.run("document.querySelectorAll('.canvas.tall i.tested').length") == 2


def test_hovering_answers_with_the_moment_under_the_pointer(show: Callable[..., driver.Browser]) -> None:
    shown = show(fit_report())
    shown.run("document.querySelector('.canvas.tall').scrollIntoView({block: 'center'})")
    box = shown.run("document.querySelector('.canvas.tall').getBoundingClientRect().toJSON()")
    shown.hover(box["left"] + box["width"] * 0.51, box["top"] + 40)
    said = shown.run("document.getElementById('tip').textContent")
    assert said.startswith("20.0 to 22.0 s, epoch 2: ") and "\ndecode " in said and "waiting for data 5 %" in said
    assert "costs 2 of what it did" in shown.run("document.body.textContent")
