"""The table: what comes first, what is called unresolved or modelled, digits, and width."""

from __future__ import annotations

import dataclasses
import math
import re
from functools import partial
from typing import TypeVar

import pytest
from widths import assert_figures_are_whole

from greenload.energy.attribution.costs import HAND_OVER, Cost
from greenload.energy.figures import Figure
from greenload.report.comparison import compare
from greenload.report.data import Report, Skipped
from greenload.report.page import energy_card
from greenload.report.rows import by_group, provenance, report_rows, warning
from greenload.report.terminal import report_text
from greenload.text import DASH, amount, wrapped


def test_what_is_unattributed_comes_first(unexplained: Report, measured: Report) -> None:
    first = report_text(unexplained).splitlines()[0]
    assert first.startswith("Unattributed: 17 % of the CPU seconds")
    assert not report_text(measured).startswith("Unattributed")


def test_steps_that_claim_too_much_are_called_that(make_report: object) -> None:
    assert callable(make_report)
    first = " ".join(report_text(make_report(missing=-0.3)).splitlines()[:3])
    assert re.search(r"\d+ % more than the CPU seconds", first) and "claimed by the steps" in first


def unknown(report: Report, *names: str) -> Report:
    """The report with steps that have no CPU figure, and so without the check of the sum."""
    steps = tuple(
        dataclasses.replace(one, cpu_s_per_sample=Figure.missing()) if one.name in names else one
        for one in report.steps
    )
    rest = dataclasses.replace(report.unattributed, cpu_s_per_sample=Figure.missing())
    return dataclasses.replace(report, steps=steps, unattributed=rest)


def test_a_sum_that_was_not_checked_is_said_first(measured: Report, unexplained: Report) -> None:
    said = "The steps' sum could not be checked against the held-out run: "
    assert report_text(unknown(measured, "Batch"), 200).splitlines()[0] == said + "Batch has no figure"
    assert warning(unknown(measured, "source", "Batch")) == said + "source, Batch have no figure"
    full = dataclasses.replace(measured.full, cpu_s_per_sample=Figure.missing())
    assert warning(dataclasses.replace(unknown(measured), full=full)) == said + "the held-out run has no figure"
    both = warning(unknown(unexplained, "Batch"))
    assert both is not None and both.startswith(said) and "of cpu:package-0's joules" in both


def test_the_head_says_what_ran_where_and_what_is_measured(measured: Report, modelled: Report) -> None:
    head = report_text(measured, 200)
    assert "imagenet:train: 512 samples of data/train, on tf, 2 threads" in head
    assert "AMD EPYC 7B13, 2 CPUs, 8.2 GB RAM" in head
    assert "Measured: CPU seconds, joules of cpu, dram, gpu. Other joules: storage modelled ±72 %" in head
    bare = report_text(modelled, 200)
    assert "no energy counter is readable here, so they come first" in bare
    assert "cpu modelled ±40 %" in bare
    assert "no figures for cpu:package-0: no RAPL zone" in bare


def test_rows_are_steps_then_the_rest_then_idle_then_the_total(measured: Report) -> None:
    kinds = [row.kind for row in report_rows(measured)]
    assert kinds == ["step"] * 5 + ["unattributed", "idle", "total"]
    lines = [line.split("  ")[0] for line in report_text(measured).splitlines()]
    positions = [lines.index(name) for name in ("Batch", "unattributed", "idle floor", "total (held-out run)")]
    assert positions == sorted(positions)


def test_steps_unattributed_and_idle_add_up_to_the_total(measured: Report) -> None:
    *parts, total = report_rows(measured)
    for group in ("cpu", "dram", "gpu"):
        values = [row.energy_mj[group].value or 0.0 for row in parts if group in row.energy_mj]
        assert sum(values) == pytest.approx(total.energy_mj[group].value)


def test_domains_of_one_run_may_err_together_and_runs_do_not(measured: Report) -> None:
    socket = Figure(0.01, 0.008, 0.012, "measured")
    energy = {"cpu:package-0": socket, "cpu:package-1": socket, "dram:package-0": socket}
    assert by_group(energy)["cpu"].half_width == pytest.approx(0.004)
    report = dataclasses.replace(measured, total=dataclasses.replace(measured.total, energy_j_per_sample=energy))
    card = energy_card(report)
    assert card is not None and card["value"] == "30 ±6 mJ"
    cpu = next(one for one in compare(report, report).totals if one.name == "cpu joules")
    assert cpu.difference is not None and cpu.difference.half_width == pytest.approx(4.0 * math.sqrt(2))


def test_a_row_holds_cost_interval_share_and_joules(measured: Report) -> None:
    line = next(line for line in report_text(measured).splitlines() if line.startswith("Decode + crop"))
    assert re.search(r"0\.8\d+ ±0\.0\d+ +38 % +1[23]\.\d+", line), line


def test_fused_steps_name_their_stages(measured: Report) -> None:
    assert "Decode + crop: Decode + RandomResizedCrop" in report_text(measured, 160)


def test_unresolved_is_written(measured: Report) -> None:
    shown = report_text(measured)
    line = next(line for line in shown.splitlines() if line.startswith("RandomHorizontalFlip"))
    assert "unres." in line and "unres.: unresolved, the meter can't tell it from zero" in shown
    step = measured.steps[3]
    cpu = dataclasses.replace(step.cpu_s_per_sample, unresolved=True)
    changed = dataclasses.replace(measured, steps=(dataclasses.replace(step, cpu_s_per_sample=cpu),))
    assert re.search(r"RandomHorizontalFlip +unresolved", report_text(changed))


def test_what_is_missing_is_a_dash_not_zero(measured: Report) -> None:
    step = measured.steps[4]
    missing = dataclasses.replace(
        step, cpu_s_per_sample=Figure.missing(), energy_j_per_sample={"cpu:package-0": Figure.missing()}
    )
    line = next(
        line
        for line in report_text(dataclasses.replace(measured, steps=(missing,))).splitlines()
        if line.startswith("Batch")
    )
    assert re.fullmatch(rf"Batch +{DASH} +{DASH} +{DASH} +{DASH} +{DASH} +{DASH} +0", line), line


@pytest.mark.slow
def test_every_figure_is_whole_at_every_width(
    measured: Report, modelled: Report, mixed: Report, advised: Report, judged: Report
) -> None:
    for report in (measured, modelled, mixed, advised, judged):
        assert_figures_are_whole(partial(report_text, report))
        assert_figures_are_whole(partial(report_text, compare(report, modelled)))
        for row in report_rows(report)[:-2]:
            assert amount(row.cpu_ms) in report_text(report, 10), "a terminal breaks lines itself here"


@pytest.mark.slow
def test_names_from_anywhere_leave_figures_whole(measured: Report, hostile: Report) -> None:
    names = ("画像を読み込んで展開する処理", "🔬🎨" * 18, "a" * 90, "a/" * 60, "Decode")
    steps = tuple(dataclasses.replace(step, name=name) for step, name in zip(measured.steps, names, strict=True))
    source = {"source": "ImageFolder", "root": "/mnt/画像/" + "long-name/" * 20}
    named = dataclasses.replace(measured, steps=steps, pipeline={"name": names[0] * 5, "source": source})
    for report in (named, hostile):
        assert_figures_are_whole(partial(report_text, report))
        assert_figures_are_whole(partial(report_text, compare(report, measured)))
    assert names[0] in report_text(named, 80), "a word of up to 24 columns isn't broken for a figure's sake"


def test_names_are_broken_only_between_words(measured: Report, modelled: Report, mixed: Report) -> None:
    for report in (measured, modelled, mixed):
        for width in (40, 60, 80, 100):
            shown = report_text(report, width)
            words = {word for row in report_rows(report) for word in (*row.label.split(), *row.backend.split())}
            if report is not mixed:
                words.remove("tf")
            assert words <= set(shown.split()), (width, words - set(shown.split()))


def test_columns_without_room_stand_in_a_further_table_with_the_names(measured: Report) -> None:
    wide, narrow = report_text(measured, 200), report_text(measured, 60)
    assert wide.count("idle floor") == 1 and narrow.count("idle floor") > 1
    for name in ("storage", "modelled", "dram", "read"):
        assert name in narrow.split()
    lines = narrow.splitlines()
    batch = " ".join(line.removeprefix("Batch") for line in lines if line.startswith("Batch"))
    assert batch.split() == next(line for line in wide.splitlines() if line.startswith("Batch")).split()[1:]


def test_sentences_are_broken_between_words_and_at_signs() -> None:
    rule = "energy_j_per_sample.dram:package-0<=0.0123"
    assert wrapped(f"met: {rule}", 60) == f"met: {rule}"
    assert wrapped(f"met: {rule}", 45) == f"met:\n{rule}"
    assert wrapped(f"met: {rule}", 30) == "met: energy_j_per_sample.dram:\npackage-0<=0.0123"
    assert wrapped("/data/a/bb/ccc.jpg", 8) == "/data/a/\nbb/\nccc.jpg"
    assert wrapped("読む 0.84", 5) == "読む\n0.84" and wrapped("", 5) == ""


def test_one_backend_for_all_needs_no_column(measured: Report, mixed: Report) -> None:
    assert "backend" not in report_text(measured, 80)
    assert "backend" in report_text(mixed, 80)
    other = dataclasses.replace(measured, plan={"backend": "dali-cpu"})
    assert re.search(r"^Batch +tf ", report_text(other, 80), re.MULTILINE), "the head names another one"


AnyCost = TypeVar("AnyCost", bound=Cost)


def without_reading(report: Report) -> Report:
    """The report of a run from the page cache: one byte per sample, a millionth of the joules."""
    tiny = Figure(7e-9, -3e-8, 5e-8, "modelled", 0.72, unresolved=True)

    def less(cost: AnyCost) -> AnyCost:
        energy = {**cost.energy_j_per_sample, "storage:nvme0n1": tiny}
        return dataclasses.replace(
            cost, energy_j_per_sample=energy, device_bytes_per_sample=Figure(1.0, -4.0, 6.0, "measured")
        )

    return dataclasses.replace(
        report,
        full=less(report.full),
        total=less(report.total),
        unattributed=less(report.unattributed),
        steps=tuple(less(one) for one in report.steps),
    )


def test_next_to_no_joules_and_bytes_need_no_column(measured: Report) -> None:
    assert "storage" in report_text(measured, 100) and "kB" in report_text(measured, 100)
    few = without_reading(measured)
    assert "storage" not in report_text(few, 100) and "kB" not in report_text(few, 100)
    assert "storage modelled" in provenance(few), "the page shows all groups"
    energy = {**few.steps[0].energy_j_per_sample, "storage:nvme0n1": Figure.missing("modelled", 0.72)}
    step = dataclasses.replace(few.steps[0], energy_j_per_sample=energy)
    assert "storage" in report_text(dataclasses.replace(few, steps=(step, *few.steps[1:])), 100), (
        "unknown isn't nothing"
    )


@pytest.mark.parametrize(
    ("count", "named", "more"), [(1, 1, ""), (5, 5, ""), (1234, 5, "… and 1,229 more (in the JSON)")]
)
def test_of_many_records_left_out_a_few_are_named(measured: Report, count: int, named: int, more: str) -> None:
    skipped = tuple(Skipped(f"{index}.jpg", "truncated") for index in range(count))
    lines = report_text(dataclasses.replace(measured, skipped=skipped)).splitlines()
    assert [line for line in lines if line.startswith("left out: ")] == [
        f"left out: {index}.jpg: truncated" for index in range(named)
    ]
    assert [line for line in lines if line.startswith("…")] == ([more] if more else [])


def test_names_cannot_steer_the_terminal(hostile: Report) -> None:
    shown = report_text(hostile, 300)
    assert "\x1b" not in shown and "\\x1b[2J[red]\\udc80" in shown
    assert "[bold]" in shown, "markup of the console is text here"
    shown.encode("utf-8")


def test_advice_side_inputs_and_reads(advised: Report, measured: Report) -> None:
    shown = report_text(advised, 120)
    lines = shown.splitlines()
    assert "Worth changing first" in lines and "1. Cache what decode gives" in lines
    tried = lines[lines.index("1. Cache what decode gives") + 1]
    assert re.match(
        r"   measured in a trial: saves 0\.60 ±0\.05 CPU ms per sample \(\d\d %\); cpu 12\.0 ±2\.0 mJ", tried
    )
    assert "   estimate: saves 0.20 ±0.30 CPU ms per sample (9 %), not told from zero" in lines
    decode = next(k for k, line in enumerate(lines) if line.startswith("  Decode + crop"))
    assert lines[decode - 1] == "input masks" and lines[decode + 1] == "  train.py:31"
    assert re.search(r"reads$", shown, re.MULTILINE) and re.search(r"^source.* 2\.02$", shown, re.MULTILINE)
    assert "Below zero: Batch spares the steps before it" in shown
    plain = report_text(measured, 120)
    assert "Worth changing" not in plain and " reads" not in plain and "Below zero" not in plain


def test_a_hand_over_below_zero_spares_nothing(advised: Report) -> None:
    steps = tuple(
        dataclasses.replace(one, name=HAND_OVER if one.name == "Batch" else one.name) for one in advised.steps
    )
    shown = report_text(dataclasses.replace(advised, steps=steps), 160)
    assert "Below zero: hand-over: the other steps come to more than the whole takes" in shown and "spares" not in shown
