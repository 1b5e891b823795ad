"""An optimization in a terminal: what leads, what it says, at any width, whatever the names."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from known_optimizations import DISK, PLANES, SMALLER, STREAMING, TODAY, figure, optimization
from rich.cells import cell_len
from widths import assert_figures_are_whole

from greenload.energy.figures import Figure
from greenload.optimization import views
from greenload.optimization.data import Optimization
from greenload.report.columns import plain_text


def shown(found: Optimization, width: int = 200) -> str:
    return plain_text(found.render(), width)


def test_first_comes_what_to_use_what_it_saves_and_what_it_holds() -> None:
    lines = shown(optimization()).splitlines()
    assert lines[0] == f"use {PLANES}"
    assert lines[1].startswith(
        "  it saves 91 % of today's CPU seconds: 7,360 ±160 of 8,100 ±160 CPU s in 90 epochs of "
    )
    assert lines[2].startswith("  it saves 88 % of today's joules: 25.1 ±0.6 of 28.5 ±0.6 kJ")
    assert lines[2].endswith(", modelled ±50 %")
    assert lines[3] == "  it holds 5.2 GB in memory (8.6 GB allowed); 2 threads, 12,190 ±240 images/s"
    assert lines[4] == "  what it prepares has paid off by the end of epoch 3"


def test_joules_lead_only_where_a_counter_measures_them() -> None:
    for counted, first in ((False, "CPU s"), (True, "kJ")):
        found = optimization(counted=counted)
        assert views.joules_lead(found) == counted
        assert views.quantities(found)[0].unit.name == first
        assert ("today's joules" in shown(found).splitlines()[1]) == counted
    asked = optimization(counted=True, objective="cpu")
    assert not views.joules_lead(asked) and views.decisive(asked).noun == "CPU seconds"
    assert views.decisive(optimization()).noun == "joules"


def test_winner_runner_up_and_today_come_before_the_others() -> None:
    found = optimization()
    assert [candidate.name for candidate in views.measured(found)][:3] == [PLANES, DISK, TODAY]
    assert [views.role(found, found.candidate(name)) for name in (PLANES, DISK, TODAY, SMALLER)] == [
        "use",
        "runner-up",
        "today",
        "",
    ]
    text = shown(found)
    rows = [text.index(f"\n{name} ") for name in (PLANES, DISK, TODAY, SMALLER)]
    assert rows == sorted(rows) and f"{SMALLER} (changes pixels: antialias)" in text
    assert f"{DISK}: it costs 60 % more; most of it in bytes from and to the device" in text
    assert "2 plans were priced by the table of costs, and not run" in text


def test_what_was_checked_is_said() -> None:
    text = shown(optimization())
    for said in (
        "predicted 1.50 ±0.10 CPU s, seen 1.47: inside the interval",
        "predicted 1.65 ±0.05 CPU s, seen 1.73: outside the interval",
        f"watts per GB held, 0.392 ±40 % here: from 1.42 up {DISK} would cost less",
        "idle watts, 1.48 ±50 % here: no value changes the choice",
        "antialias moves pixels by 0.83 levels of 255 on average, 41 at most (64 images); look at fine textures",
        "note: racing to idle or keeping pace",
    ):
        assert said in text, said
    assert "power of the machine at the demanded rate: 1 thread 31.2 ±0.6 W, 2 threads 29.8" in shown(
        optimization(counted=True)
    )


def test_a_flip_within_its_band_is_a_doubt() -> None:
    flip = optimization().flips[0]
    near = replace(flip, at=0.8 * flip.value)
    assert near.within and "so the choice hangs on it" in views.flip_text(near)
    assert not flip.within and "hangs" not in views.flip_text(flip)


def test_a_demand_that_nothing_meets_is_said_first() -> None:
    found = optimization(demand=20_000.0)
    first = shown(found).splitlines()[0]
    assert first.startswith(f"no plan meets the demand; nearest is {PLANES}: it gives 12,188 of 20,000")
    assert "e+0" not in shown(found) and "(20,000 demanded)" in shown(found)


def test_a_saving_that_is_not_told_from_zero_is_not_called_one() -> None:
    found = optimization(saves_j=Figure(3.0, -1.0, 7.0, "measured"), saves_cpu_s=figure(-50.0, -0.1))
    lines = shown(found).splitlines()
    assert lines[1] == "  it takes 50 ±5 CPU s more than today's plan, 8,100 ±160 CPU s"
    assert lines[2].startswith(
        "  its joules aren't told from those of today's plan: saves 0.003 ±0.004 of 28.5 ±0.6 kJ"
    )
    assert views.saved_share(found, views.decisive(found)) is None


def test_today_may_be_the_best_or_missing() -> None:
    found = optimization()
    best = replace(found.best, today=True)
    others = tuple(replace(each, today=False) for each in found.candidates[1:])
    kept = replace(found, candidates=(best, *others))
    assert shown(kept).startswith(f"keep today's plan: {PLANES}\n  it holds ")
    assert f"{PLANES} (keep, today, Pareto)" in shown(kept)
    gone = replace(found, candidates=(found.best, *others))
    assert gone.today is None and shown(gone).splitlines()[1].startswith("  it holds ")
    assert f"not told from the winner in what they cost: {STREAMING}" in shown(replace(found, ties=(STREAMING,)))


@pytest.mark.parametrize("counted", [False, True])
def test_no_figure_is_cut_at_any_width(counted: bool) -> None:
    found = optimization(counted=counted)
    assert_figures_are_whole(lambda width: shown(found, width))
    for width in (60, 80, 100, 140, 200):
        assert max(map(cell_len, shown(found, width).splitlines())) <= width


def test_units_follow_the_largest_figure() -> None:
    names = [views.quantities(optimization(epochs=epochs))[0].unit.name for epochs in (1, 90, 900)]
    assert names == ["CPU s", "CPU s", "CPU h"]
    found = optimization(epochs=900)
    hours = views.quantities(found)[0]
    assert hours.unit.of(Figure(7200.0, 3600.0, 9000.0, "measured")) == Figure(2.0, 1.0, 2.5, "measured")


def test_names_cant_steer_a_terminal() -> None:
    hostile = json.loads(json.dumps(optimization().to_dict()).replace("native, planes", "\\u001b[2Jplanes"))
    text = str(Optimization.from_dict(hostile))
    assert "\x1b" not in text and "\\x1b[2Jplanes" in text


def test_a_run_on_the_same_images_is_not_said_to_be_on_others() -> None:
    found = optimization()
    same = replace(found, held_out=tuple(replace(run, other=False) for run in found.held_out))
    assert "epochs of 512 other images: " in shown(found)
    assert "epochs of the same 512 images with other draws: " in shown(same) and "other images" not in shown(same)
    assert "has no images left" in same.html() and "has no images left" not in found.html()
    assert not Optimization.from_dict(same.to_dict()).held_out[0].other
