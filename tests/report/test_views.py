"""The first epoch and later ones, each with its rows and its shares, in the terminal, the page and the JSON."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from greenload.report.budgets import Budget, check_budgets
from greenload.report.comparison import compare
from greenload.report.cost_records import CacheState
from greenload.report.data import Report
from greenload.report.html import html
from greenload.report.rows import report_rows, warning
from greenload.report.terminal import report_text
from greenload.report.views import views


def test_each_epoch_has_its_rows_and_its_shares(cached: Report) -> None:
    first, later = views(cached)
    assert (first.name, later.name) == ("First epoch", "Later epochs")
    assert [step.name for step in first.report.steps][3] == "cache, writing"
    assert later.report.steps[0].name == "cache, reading"
    assert len(first.report.steps) == 6 and len(later.report.steps) == 3
    for view in (first, later):
        shares = [row.share or 0.0 for row in report_rows(view.report) if row.kind in ("step", "unattributed")]
        assert all(0 <= share <= 1 for share in shares) and sum(shares) == pytest.approx(1.0, abs=0.02)
    assert views(replace(cached, steps=first.report.steps, first_epoch=None)) != views(cached)


def test_the_terminal_shows_two_totals(cached: Report) -> None:
    shown = report_text(cached, 80)
    assert max(map(len, shown.splitlines())) <= 80
    begin, end = (
        shown.index("First epoch: fills cache (in memory)"),
        shown.index("Later epochs: read cache (in memory)"),
    )
    assert "total, first epoch" in shown[begin:end] and "total, later epochs" in shown[end:]
    assert "Decode + crop" in shown[begin:end] and "Decode + crop" not in shown[end:]
    assert "the 3 steps before it don't run any more" in " ".join(shown.split())
    assert not re.search(r"−\d+ %|\d{4,} %", shown)
    assert "A later epoch takes 5 % of the first epoch's CPU seconds" in shown


def test_starting_an_iterator_has_a_line_where_it_is_felt(cached: Report) -> None:
    said = (
        "Starting an iterator: 4.00 ±0.20 CPU ms, 2.00 ±0.20 ms of waiting, once an epoch: 10 % of what a later epoch"
    )
    assert said in " ".join(report_text(cached, 80).split()) and said in html(cached)
    assert cached.iterator_start is not None
    longer = replace(cached, iterator_start=replace(cached.iterator_start, samples=512.0 * 6))
    assert "Starting an iterator" not in report_text(longer, 80)


def test_the_page_s_full_speed_is_that_of_later_epochs(cached: Report) -> None:
    page = html(cached)
    assert "Full speed, later epochs" in page
    assert re.search(r"<strong>the model</strong><small>[^<]* at full speed, later epochs</small>", page)
    assert "at full speed, later epochs" not in html(replace(cached, first_epoch=None))


def test_a_cache_that_was_there_is_said_to_be(cached: Report) -> None:
    steps = tuple(replace(one, runs="no epoch" if one.runs == "first epoch" else one.runs) for one in cached.steps)
    found = replace(cached, steps=steps, first_epoch=None, caches=(CacheState("cache", "/data/kept", True),))
    shown = " ".join(report_text(found, 80).split())
    assert "cache at /data/kept was on disk already: your first epoch reads it, too" in shown
    assert "Every epoch: reads cache (on disk at /data/kept)" in shown and "First epoch:" not in shown


def test_what_a_later_epoch_cannot_tell_from_nothing_is_no_warning(cached: Report) -> None:
    rest = replace(cached.unattributed.cpu_s_per_sample, value=2e-5, low=-1e-5, high=5e-5)
    loose = replace(cached, unattributed=replace(cached.unattributed, cpu_s_per_sample=rest))
    assert cached.full.cpu_s_per_sample.value is not None and 0.05 * cached.full.cpu_s_per_sample.value < 2e-5
    assert warning(cached) is None and warning(loose) is None
    certain = replace(rest, low=1e-5, high=3e-5)
    told = warning(replace(loose, unattributed=replace(loose.unattributed, cpu_s_per_sample=certain)))
    assert told is not None and told.startswith("Later epochs: Unattributed: 26 % of the CPU seconds")


def test_it_survives_json_and_old_reports_have_one_kind_of_epoch(cached: Report, measured: Report) -> None:
    assert Report.from_dict(cached.to_dict()) == cached
    data = measured.to_dict()
    assert not {"first_epoch", "caches", "iterator_start"} & set(data) and "runs" not in data["steps"][0]
    assert [view.name for view in views(Report.from_dict(data))] == [""]


def test_the_page_shows_both(cached: Report) -> None:
    page = html(cached)
    assert page.count("<h3>First epoch <small>fills cache (in memory)</small></h3>") == 3  # charts, check, table
    assert page.count("<h3>Later epochs <small>") == 3
    assert len(set(re.findall(r'id="([^"]+)"', page))) == len(re.findall(r' id="([^"]+)"', page))
    assert "CPU time per sample, first epoch" in page and "in first epoch only" in page


def test_one_step_is_judged_by_an_epoch_in_which_it_runs(cached: Report) -> None:
    """In later epochs a step in front of a cache costs nothing, so any budget would hold, and no growth would show."""
    (found,) = check_budgets(cached, [Budget("decode", "cpu_s_per_sample", "<=", 1e-4, "", "Decode + crop")])
    assert found.outcome == "exceeded" and found.value == pytest.approx(0.9e-3)
    assert [step.name for step in cached.own_steps] == [step.name for step in cached.steps]
    (pair,) = (one for one in compare(cached, cached).pairs if one.name == "Decode + crop")
    assert pair.changes["CPU"].a is not None and pair.changes["CPU"].a.value == pytest.approx(0.9)
