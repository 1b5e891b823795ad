"""The sentences beside the table: where bytes came from, precision, steps not told apart, carbon, checks."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from greenload.energy.attribution.costs import Indistinct
from greenload.energy.figures import Figure
from greenload.energy.meters.base import COUNTS_TWICE, MeterStatus
from greenload.report import notes
from greenload.report.carbon import estimate_carbon
from greenload.report.comparison import Difference, compare
from greenload.report.cost_records import ClockRecord
from greenload.report.data import ColdRun, Precision, Report
from greenload.report.html import html
from greenload.report.terminal import report_text
from greenload.report.validation import validate


def read(report: Report, device: float, used: float | None = 82e3) -> Report:
    """The report with so many bytes a sample from the device, of so many used."""
    figure = Figure(device, device, device, "measured")
    first = replace(report.steps[0], bytes_out_per_sample=used, device_bytes_per_sample=figure)
    full = replace(report.full, device_bytes_per_sample=figure)
    return replace(report, full=full, steps=(first, *report.steps[1:]))


CACHED = "Files were read from the page cache: fetching them from the device is not in these figures"


@pytest.mark.parametrize(
    ("device", "used", "said"),
    [
        (0.0, 82e3, CACHED),
        (511.0, 82e3, CACHED),
        (82e3, 82e3, "Of 82.0 kB read per image, 100 % came from the device"),
        (84e3, 82e3, "Of 82.0 kB read per image, 100 % came from the device"),
        (20.5e3, 82e3, "Of 82.0 kB read per image, 25 % came from the device and 75 % from the page cache"),
        (
            164e3,
            82e3,
            "Of 82.0 kB read per image, 100 % came from the device, which fetched 2.0 times that in whole pages and by "
            "reading ahead",
        ),
        (84e3, None, "84.0 kB per image came from the device"),
    ],
)
def test_where_bytes_came_from(measured: Report, device: float, used: float | None, said: str) -> None:
    report = read(measured, device, used)
    assert notes.reading(report) == notes.Note(said)
    assert said in report_text(report, 200).splitlines()


def test_where_bytes_came_from_is_said_of_files_alone(measured: Report) -> None:
    none, some = read(measured, 0.0), read(measured, 84e3)
    for kind in ("Files", "TFRecords"):
        assert notes.reading(replace(none, pipeline={"source": {"source": kind}})) == notes.Note(CACHED)
    for report in (none, some):
        assert notes.reading(replace(report, pipeline={"source": {"source": "Arrays"}})) is None
    assert notes.reading(replace(none, pipeline={})) is None, "what a dataset reads isn't known"
    assert notes.reading(replace(some, pipeline={})) == notes.Note("84.0 kB per sample came from the device")
    untold = replace(none.steps[0], device_bytes_per_sample=Figure.missing())
    assert notes.reading(replace(none, steps=(untold, *none.steps[1:]))) is None


def test_a_cache_behind_it_does_not_hide_what_reading_fetches(measured: Report) -> None:
    nothing = Figure(0.0, 0.0, 0.0, "measured")
    cached = read(measured, 82e3)
    cached = replace(cached, full=replace(cached.full, device_bytes_per_sample=nothing))
    assert notes.reading(cached) == notes.Note("Of 82.0 kB read per image, 100 % came from the device")


def test_a_cold_run_says_what_left_memory_and_what_stayed() -> None:
    assert notes.cold(None) is None
    assert notes.cold(ColdRun(512, 42_000_000, 0)) == notes.Note(
        "Read cold: 512 files, 42.0 MB, left memory before each window that reads"
    )
    some = notes.cold(ColdRun(1, 8_000_000, 4_000_000, "4.0 MB of 8.0 MB stay in memory: x is mapped by process 7"))
    assert some == notes.Note(
        "Read cold as far as could be: 1 file, 8.0 MB; 4.0 MB of 8.0 MB stay in memory: x is mapped by process 7",
        "doubt",
    )


def test_precision_says_what_was_asked_reached_and_taken() -> None:
    good = Precision(0.05, 0.043, "Batch, CPU seconds", builds=3, rounds=5, planned_s=180, took_s=61.4)
    assert notes.precision(good) == notes.Note(
        "Intervals within ±5 % as asked, after 3 builds of 5 rounds, 61 s (at most 180 s were planned)", "good"
    )
    just = notes.precision(replace(good, wanted=0.05, found=0.0501))
    assert just is not None and just.text.startswith("Intervals of a little over ±5 % where ±5 % was asked")
    missed = notes.precision(replace(good, found=0.123, wanted=0.005))
    assert missed is not None and missed.kind == "doubt"
    assert (
        missed.text.startswith("Intervals of ±12 % where ±0.5 % was asked")
        and "the widest: Batch, CPU seconds" in missed.text
    )


def test_a_precision_without_a_figure_is_a_doubt(measured: Report) -> None:
    found = Precision(0.05, None, "the whole, gpu:0", builds=2, rounds=5, planned_s=180, took_s=61.4)
    note = notes.precision(found)
    assert note is not None and note.kind == "doubt"
    assert note.text.startswith("±5 % was asked, but there is no figure of the whole, gpu:0, after 2 builds")
    data = replace(measured, precision=found).to_dict()
    validate(data)
    assert data["precision"]["found"] is None and Report.from_dict(data).precision == found


def test_steps_that_cannot_be_told_apart_stand_together(measured: Report) -> None:
    flip = ("flip", "batch")
    groups = (
        Indistinct(flip, "cpu_s", Figure(3.4e-5, 3e-5, 3.8e-5, "measured")),
        Indistinct(("resize", "flip"), "dram:package-0", Figure(1e-3, 0.9e-3, 1.1e-3, "measured")),
        Indistinct(flip, "cpu:package-0", Figure(4.6e-4, 4.2e-4, 5e-4, "measured")),
    )
    found = [note.text for note in notes.indistinguishable(groups, measured)]
    assert found == [
        "Not told apart: flip + batch; in sum 0.034 ±0.004 CPU ms (2 %), 0.46 ±0.04 mJ of cpu:package-0",
        "Not told apart: resize + flip; in sum 1.00 ±0.10 mJ of dram:package-0",
    ]
    assert found[0] in report_text(replace(measured, together=groups), 200).splitlines()


def test_carbon_names_all_that_it_rests_on(measured: Report, modelled: Report) -> None:
    assert notes.carbon(None, measured) is None
    joules = {"cpu": Figure(0.036, 0.0342, 0.0378, "modelled", 0.5)}
    note = notes.carbon(estimate_carbon(joules, (), g_per_kwh=100, pue=1.2), modelled)
    assert note is not None and note.text == (
        "1.20 ±0.06 g CO₂e per million images: 100 g/kWh (given), PUE 1.2, joules modelled ±50 %, idle floor included. "
        "Without dram: no meter; gpu: no meter; storage: no meter"
    )
    world = estimate_carbon(measured.total.energy_j_per_sample, measured.meters)
    shown = report_text(replace(measured, carbon=world), 300)
    assert "475 g/kWh (world average, IEA 2019), PUE 1, joules modelled ±" in shown and "Without" not in shown


@pytest.mark.parametrize(
    ("share", "says"),
    [
        (1.0, "joules measured, idle"),
        (0.97, "joules modelled ±1.5 % (97 % measured), idle"),
        (0.9999, "joules modelled ±0.005 % (99 % measured), idle"),
        (0.0001, "joules modelled ±50 % (under 1 % measured), idle"),
        (0.0, "joules modelled ±50 %, idle"),
    ],
)
def test_carbon_says_how_much_of_it_is_measured(share: float, says: str, measured: Report) -> None:
    joules = {"cpu:package-0": Figure(share, share, share, "measured")}
    if share < 1:
        rest = 1 - share
        joules["storage:nvme0n1"] = Figure(rest, rest, rest, "modelled", 0.5)
    found = estimate_carbon(joules, ())
    assert says in notes.carbon_basis(found)
    report = replace(measured, carbon=found)
    assert says in report_text(report, 300) and says in html(report)
    validate(report.to_dict())


def test_a_sum_that_lacks_a_socket_says_so_at_the_figure(measured: Report, modelled: Report) -> None:
    denied = MeterStatus("cpu:package-1", "measured", False, "permission denied", "sudo chmod", "rapl")
    report = replace(measured, meters=(*measured.meters, denied))
    assert notes.missing_parts(report) == {"cpu": {"package-1": "permission denied"}}
    shown, page = report_text(report, 200), html(report)
    assert "\ncpu mJ in part: without package-1: permission denied\n" in shown and "in part" in report_text(report, 80)
    assert "cpu mJ, measured, without package-1</th>" in page
    assert "idle floor included; cpu without package-1: permission denied<" in page
    assert Difference("cpu joules", "complete", "without package-1") in compare(measured, report).setups
    # Neither what another counter holds, nor what a model of the whole covers, nor a kind without figures.
    mirror = replace(denied, reason=f"psys contains other zones: {COUNTS_TWICE}")
    no_gpu = replace(denied, domain="gpu")
    for fine in (measured, modelled, replace(measured, meters=(mirror, no_gpu))):
        assert notes.missing_parts(fine) == {} and "mJ in part" not in report_text(fine, 200)
    drive = replace(denied, domain="storage:nvme0n1")
    assert notes.missing_parts(replace(measured, meters=(drive,))) == {}, "modelled in its place"


def test_budgets_come_last_and_failures_first(judged: Report) -> None:
    lines = report_text(judged, 200).splitlines()[-4:]
    assert [line.split(":")[0] for line in lines] == ["missing", "exceeded", "undecided", "met"]
    assert "most in Decode + crop, 38 %" in lines[1]
    assert [note.kind for note in notes.checks(judged.checks)] == ["failed", "failed", "doubt", "good"]


def test_everything_is_in_the_text_and_fits(judged: Report) -> None:
    shown = report_text(judged, 300)
    for note in (*notes.conditions(judged), *notes.indistinguishable(judged.together, judged)):
        assert note.text in shown
    assert "gpu:1: NVML: not supported" in shown.split("Without ")[1].splitlines()[0]
    assert all(len(line) <= 80 for line in report_text(judged, 80).splitlines())


def test_names_cannot_steer_the_terminal(hostile: Report) -> None:
    assert "\x1b" not in report_text(hostile, 300)
    found = (
        *notes.conditions(hostile),
        *notes.indistinguishable(hostile.together, hostile),
        *notes.checks(hostile.checks),
    )
    assert len(found) >= 5 and all(note.text.isprintable() for note in found)


def test_where_a_step_counts_other_than_its_replay_is_said(measured: Report, clocked: Report) -> None:
    assert notes.counted(measured) is None
    note = notes.counted(clocked)
    assert note is not None
    assert note.text.startswith("Counted: CPU time that a step counted itself while the whole pipeline ran. It differs")
    assert re.search(r"Decode \+ crop 0.600 ±0.012 ms, in its replay 0\.8\d+ ±0\.\d+ ms;", note.text)
    flip = "RandomHorizontalFlip nothing (another step does it in the same pass), in its replay 0.00"
    assert flip in note.text and "resize 1.26" not in note.text
    sum_s = sum(step.cpu_s_per_sample.value or 0.0 for step in (clocked.steps[0], clocked.steps[-1])) + 1.86e-3
    share = round(100 * sum_s / (clocked.full.cpu_s_per_sample.value or 1.0))
    assert 80 < share < 95 and note.text.endswith(f"With what they counted the steps sum to {share} % of the whole")
    alike = tuple(
        step if step.name.startswith("RandomResized") else replace(step, in_place=None) for step in clocked.steps
    )
    agreeing = notes.counted(replace(clocked, steps=alike))
    assert agreeing is not None and agreeing.text.endswith(
        "No step's differs from its replay by more than both intervals"
    )


def test_what_steps_counted_has_a_column_where_any_did(measured: Report, clocked: Report) -> None:
    text = report_text(clocked, 140)
    (row,) = (line for line in text.splitlines() if line.startswith("Decode + crop"))
    assert "0.600 ±0.012" in row and " counted" in text and "in place" not in text
    assert "counted" not in report_text(measured, 140)


def with_clocks(report: Report, crossed: float = 0.0) -> Report:
    """The report as if its second step had been measured by the clock around it, and its last were a hand-over."""
    waiting, replay = Figure(1e-3, 9e-4, 1.1e-3, "measured"), Figure(2e-3, 1.9e-3, 2.1e-3, "measured")
    step = replace(report.steps[1], method="in place", clock=ClockRecord(waiting, 1.0, crossed, replay))
    step = replace(step, cpu_s_per_sample=Figure(1e-3, 9.9e-4, 1.01e-3, "measured"))
    return replace(report, steps=(report.steps[0], step, replace(report.steps[2], method="in place", name="hand-over")))


def test_clocks_have_a_column_of_waiting_and_a_note(measured: Report) -> None:
    report = with_clocks(measured)
    assert notes.clocks(measured) is None and "waiting" not in report_text(measured, 160)
    note = notes.clocks(report)
    assert note is not None and note.text.startswith("In place: CPU time of 1 function, by clocks around them")
    assert "Hand-over is what the whole takes beside the steps" in note.text
    assert "1.000 ±0.010 ms, in its replay 2.00 ±0.10 ms. What counts is the figure in place" in note.text
    free = replace(report.steps[1], cpu_s_per_sample=Figure(0.0, 0.0, 0.0, "measured"))
    fused = notes.clocks(replace(report, steps=(report.steps[0], free, report.steps[2])))
    assert fused is not None and f"{free.name}: nothing, another step does it in the same pass" in fused.text
    doubted = notes.clocks(with_clocks(measured, crossed=0.25))
    assert doubted is not None and doubted.kind == "doubt" and "25 % of the calls of" in doubted.text
    shown = report_text(report, 160)
    assert "waiting" in shown and "1.00 ±0.10" in shown
    page = html(report)
    assert "ms waiting" in page and "What counts is the figure in place" in page
    data = report.to_dict()
    validate(data)
    assert Report.from_dict(data).steps == report.steps
    old = {**data, "steps": [{name: part for name, part in step.items() if name != "clock"} for step in data["steps"]]}
    assert all(step.clock is None for step in Report.from_dict(old).steps)
