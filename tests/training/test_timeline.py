"""Watts over time, drift and pace: the arithmetic, on spans made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_fits import known
from known_spans import buffer, exact, fit_report, part, spent, step

from greenload.energy.figures import Figure
from greenload.energy.sampler import Sampler
from greenload.profiling.in_place.model import Buffer
from greenload.profiling.in_place.watched import Moment, Watched, WatchedStep
from greenload.report.prometheus import Metrics
from greenload.system.work import Work
from greenload.training import instants
from greenload.training.buffers import mean_buffers
from greenload.training.drift import drifts
from greenload.training.fit_report import FitReport, fit_text
from greenload.training.fit_table import buffers_text
from greenload.training.instants import Instant, Recorder, joined, spaced, span
from greenload.training.live_steps import samples_in, spread, watched_in, watched_parts, whole
from greenload.training.served import Highest, show_instant
from greenload.training.spent import EnergyPart, Passed, WatchedPart
from greenload.training.stack import stack_chart
from greenload.training.timeline import SpanSpent, timeline


def test_layers_add_up_to_all_watts_and_a_validation_is_one() -> None:
    spans = [SpanSpent(0.0, False, spent()), SpanSpent(2.0, True, spent()), SpanSpent(4.0, False, spent(1.0))]
    found = timeline(spans, spent().total)
    assert found is not None and [found.watts(k) for k in range(3)] == pytest.approx([5.0, 5.0, 10.0])
    rows = {row.name: row.watts for row in found.rows}
    assert list(rows) == ["idle", "decode", "crop", "model", "validation"]
    assert rows["decode"] == (1.0, 0.0, 2.0) and rows["validation"] == (0.0, 4.0, 0.0)
    assert found.waiting == (0.05, None, 0.1) and found.testing == (False, True, False)
    assert (found.provenance, found.systematic) == ("modelled", 0.5)
    assert timeline([], spent().total) is None


def test_the_hand_over_is_a_layer_where_samples_are_known_and_else_the_label_says_so() -> None:
    hand_over = part("hand-over", 1.0, 0.5)
    fit = spent(steps=(*spent().steps, hand_over))
    assert fit.hand_over == hand_over and spent().hand_over is None
    (first,), (second,) = spread(hand_over, [30.0, 10.0])
    assert first.total_j.value == pytest.approx(0.75) and second.cpu_s == exact(0.125)
    assert spread(hand_over, [30.0, None]) == [(), ()] == spread(None, [1.0, 2.0]) == spread(hand_over, [0.0, 0.0])
    for layers, labels, note in (
        (fit, {"model (the rest)", "hand-over"}, "is what the profile says"),
        (spent(), {"model and hand-over (the rest)"}, "aren't known"),
    ):
        found = timeline([SpanSpent(0.0, False, layers)], fit.total)
        assert found is not None
        chart = stack_chart(found, fit, [])
        assert labels <= {name for _, name in chart.legend} and note in chart.note


def test_samples_of_a_span_are_those_of_the_datasets_that_worked() -> None:
    clock, idle = Clock(), Clock()
    did, nothing = {"decode": Work(4, 4, 0.1, 0.1)}, {"decode": Work()}
    used = {clock.watched: Moment(1.0, 1.0, did, 4.0), idle.watched: Moment(1.0, 1.0, nothing, None)}
    assert samples_in(used) == 4.0 and samples_in(used, [idle.watched]) == 0.0
    assert samples_in({clock.watched: Moment(1.0, 1.0, did, None)}) is None


def test_what_a_counter_gave_no_figure_for_is_a_gap_not_zero() -> None:
    void = {name: EnergyPart(name, {"cpu": Figure.missing()}) for name in ("model", "idle", "waiting")}
    found = timeline([SpanSpent(0.0, False, spent(**void)), SpanSpent(2.0, False, spent())], spent().total)
    assert found is not None and found.watts(0) is None and found.watts(1) == pytest.approx(5.0)
    assert "–" in stack_chart(found, spent(), []).tips[0][2]


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=40))
def test_a_stack_stays_in_its_box(joules: list[float]) -> None:
    spans = [SpanSpent(2.0 * k, k % 3 == 2, spent(model=part("model", one, 1.0))) for k, one in enumerate(joules)]
    found = timeline(spans, spent().total)
    assert found is not None
    chart = stack_chart(found, spent(wall_s=2.0 * len(spans)), [spent()])
    for lane in chart.lanes:
        for _, path in lane.paths:
            heights = [float(one) for piece in path.split("V")[1:] for one in piece.split("H")[:1]]
            assert all(-0.01 <= height <= 100.01 for height in heights)
    assert len(chart.tips) == len(spans) and len(chart.validation) == len(spans) // 3


@pytest.mark.parametrize(
    ("waiting_s", "elements", "pace"),
    [
        (1.0, 0.0, "starved"),
        (0.0, 3.9, "saturated"),
        (0.0, 0.5, "balanced"),
        (None, 3.9, "saturated"),
        (None, 0.1, "starved"),
        (None, None, ""),
        (0.0, 2.4, "balanced"),  # as `greenload top` says of the same buffer
        (0.0, 3.0, "saturated"),
        (None, 2.4, "balanced"),
        (None, 1.0, "starved"),
    ],
)
def test_pace(waiting_s: float | None, elements: float | None, pace: str) -> None:
    buffers = () if elements is None else (buffer(elements),)
    assert spent(waiting_s=waiting_s, buffers=buffers).pace == pace


def test_drift_is_told_beyond_intervals_only() -> None:
    now = spent(steps=(step("decode", 2.0, 1.2), step("crop", 1.0, 0.41), step("new", 1.0, 0.4)))
    found = {one.name: one for one in drifts(now, spent())}
    assert set(found) == {"decode", "crop"}
    assert found["decode"].drifted and found["decode"].ratio.value == pytest.approx(1.5)
    assert str(found["decode"]) == "decode costs 1.5 of what it did" and not found["crop"].drifted
    near = spent(steps=(step("decode", 2.0, 0.8 * 1.22), step("crop", 1.0, 0.4 * 1.3)))
    assert not drifts(near, spent())[0].drifted and drifts(near, spent())[1].drifted, "15 % are the machine's"
    for cost in (
        Figure(-1e-6, -3e-6, 1e-6, "measured"),
        Figure(1e-6, -1e-6, 3e-6, "measured"),
        Figure(1e-6, 0.0, 2e-6, "measured", unresolved=True),
        Figure(5e-324, 5e-324, 5e-324, "measured"),
        Figure(5e-324, 0.0, 1.0, "measured"),
        exact(0.0),
    ):
        before = spent(steps=(replace(step("decode", 2.0, 0.8), cpu_s_per_call=cost), step("crop", 1.0, 0.4)))
        assert [one.name for one in drifts(now, before)] == ["crop"], cost
        profile = known()
        profile = replace(profile, steps=(replace(profile.steps[0], name="decode", cpu_s_per_sample=cost),))
        assert drifts(now, profile) == (), cost
    cut_off = replace(step("decode", 2.0, 8.0), cpu_s_per_call=Figure(0.08, 0.0, 0.16, "measured"))
    (drift,) = drifts(now, spent(steps=(cut_off,)))
    assert drift.ratio.value is not None and drift.ratio.value < 0.2 and not drift.drifted
    assert drifts(now, None) == () and drifts(spent(passed=Passed(None, None, None)), spent()) == ()


class Clock:
    """A step's work, set by hand."""

    def __init__(self, estimates: bool = False) -> None:
        self.work = Work()
        step = WatchedStep("decode", "map", lambda: self.work, estimates=estimates)
        self.watched = Watched("train.py:3", (step,))

    def call(self, calls: int, cpu_s: float) -> None:
        self.work += Work(calls, calls, cpu_s, 2 * cpu_s)


def test_spans_of_watched_datasets() -> None:
    clock = Clock()
    with Sampler([]) as sampler:
        recorder = Recorder(sampler, lambda: None, lambda: ())
        start = recorder.take()
        clock.call(10, 0.1)
        tested = recorder.take(testing=True)
        clock.call(5, 0.2)
        end = recorder.take()
        clock.call(10, 0.1)
        last = recorder.take()
        whole_span, inner = span(sampler, start, last), span(sampler, tested, end)
        assert whole_span.without([inner])[clock.watched].steps["decode"].calls == 20
        assert joined([inner, inner])[clock.watched].steps["decode"].calls == 10
        (found,) = watched_parts(whole_span.without([inner]))
        assert (found.name, found.calls, found.dataset) == ("decode", 20, "train.py:3")
        assert found.waiting_s == pytest.approx(0.2) and found.cpu_s is not None
        assert found.cpu_s.value == pytest.approx(0.2) and found.cpu_s.half_width == 0.0
        assert watched_parts({clock.watched: span(sampler, start, start).used[clock.watched]}) == []
        assert whole([found])[0].cpu_s == found.cpu_s and whole([]) == []
        assert recorder.between(start, last) == [start, tested, end, last]
    assert watched_in(clock) == (clock.watched,) and watched_in(3) == ()


def test_only_a_clock_that_times_all_calls_is_sure() -> None:
    def seen(clock: Clock, *works: Work) -> WatchedPart:
        spans = [{clock.watched: Moment(1.0, 1.0, {"decode": work})} for work in works]
        (found,) = watched_parts({clock.watched: Moment(9.0, 9.0, {"decode": sum(works, Work())})}, spans)
        return found

    many = Work(1000, 1000, 0.01, 0.01)
    assert seen(Clock(), many).cpu_s == exact_(0.01) and half(seen(Clock(estimates=True), many).cpu_s) > 0
    # Weights of up to 64 add up to as many as were called: some 16 readings, of calls that may vary.
    assert half(seen(Clock(estimates=True), many).cpu_s_per_call) > 4 * 1.96 / math.sqrt(1000 / 64)
    # Calls that take long are read each.
    long = seen(Clock(estimates=True), Work(1000, 1000, 5.0, 5.0)).cpu_s_per_call
    assert half(long) == pytest.approx(4 * 1.96 / math.sqrt(1000), rel=0.01)
    # In a short span more calls may turn out to have crossed threads than began in it: then nothing was timed.
    few = seen(Clock(estimates=True), Work(10, -2, 0.1, 0.1, 12))
    assert few.cpu_s_per_call.value is None and few.cpu_s.value is None
    assert half(seen(Clock(estimates=True), *[many] * 4).cpu_s_per_call) == pytest.approx(0.0)
    varied = [replace(many, cpu_s=0.01 + off) for off in (0.001, -0.001, 0.001, -0.001)]
    assert half(seen(Clock(estimates=True), *varied).cpu_s) == pytest.approx(0.1 * 3.182 / math.sqrt(3), rel=0.01)


def half(figure: Figure | None) -> float:
    """Half an interval, relative to its value."""
    assert figure is not None and figure.value and figure.low is not None and figure.high is not None
    return figure.high / figure.value - 1


def exact_(value: float) -> Figure:
    return Figure(value, value, value, "measured")


def test_instants_of_a_long_fit_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instants, "MOST", 8)
    with Sampler([]) as sampler:
        recorder = Recorder(sampler, lambda: None, lambda: ())
        edge = recorder.take()
        for _ in range(9):
            recorder._kept.append(recorder._read())
        recorder._thin()
        assert len(recorder._kept) == 1 + 4 and recorder._kept[0] is edge
        assert recorder.period_s == 2 * instants.PERIOD_S
        last = recorder.take()
        assert recorder.between(edge, last)[0] is edge and recorder.between(edge, last)[-1] is last


def test_instants_too_close_are_left_out() -> None:
    with Sampler([]) as sampler:
        read = Recorder(sampler, lambda: None, lambda: ()).take()

    def at(seconds: float, testing: bool = False) -> Instant:
        clocks = replace(read.mark.clocks, monotonic_ns=round(seconds * 1e9))
        return replace(read, mark=replace(read.mark, clocks=clocks), testing=testing)

    def kept(*given_: Instant) -> list[float]:
        return [one.mark.clocks.monotonic_ns / 1e9 for one in spaced(given_)]

    assert kept(at(0.0), at(0.01), at(1.0), at(1.5), at(1.51), at(2.98), at(3.0)) == [0.0, 1.0, 1.5, 3.0]
    assert kept(at(0.0), at(1.0), at(1.01, True), at(1.5, True), at(1.51), at(3.0)) == [0.0, 1.01, 1.51, 3.0]
    assert kept(at(0.0), at(1.0, True), at(1.01), at(1.02), at(3.0)) == [0.0, 1.0, 1.01, 3.0], "a short validation"
    assert kept(at(0.0), at(0.01)) == [0.0, 0.01] and kept(at(0.0)) == [0.0]


def test_buffers_are_averaged_by_step_however_long_a_reading_is() -> None:
    full = (buffer(4.0), Buffer("ParallelMapV2", parallelism=2.0), Buffer("ParallelMapV2", elements=2.0))
    found = mean_buffers([(), full, (replace(buffer(2.0), size=8.0),)])
    assert [one.name for one in found] == ["Prefetch", "ParallelMapV2", "ParallelMapV2"]
    assert [one.elements for one in found] == [3.0, 0.0, 1.0] and found[0].size == 8.0
    assert found[1].parallelism == 2.0 and found[0].bytes == 100.0 and mean_buffers([()]) == ()


def test_a_count_below_zero_is_unknown() -> None:
    """As TensorFlow's own where strings are batched by the step that maps them, and as files of before hold it."""
    wrong = Buffer("MapAndBatch", elements=-1.0, bytes=-434e3, size=4.0)
    assert wrong.elements is None and wrong.bytes is None and wrong.full is None
    (mean,) = mean_buffers([(replace(wrong, bytes=2.0, elements=2.0),), (wrong,)])
    assert mean.elements is None and mean.bytes is None, "nor is the mean of the rest that of all"
    made = spent(buffers=(wrong, buffer(2.0)))
    assert made.buffered_bytes is None and made.pace == "balanced"
    assert buffers_text(made).startswith("in the loader's buffers: RAM unknown, as TensorFlow miscounts it; MapAndB")
    assert "an unknown number of elements in it" in buffers_text(made)

    data = fit_report(spans=3).to_dict()
    data["timeline"]["buffered_bytes"] = [-434e3, None, 2.0]
    data["fit"]["buffers"] = [{"name": "MapAndBatch", "elements": -1.0, "bytes": -434e3}]
    report = FitReport.from_dict(data)
    assert report.timeline is not None and report.timeline.buffered_bytes == (None, None, 2.0)
    assert report.fit.buffers == (Buffer("MapAndBatch", None, None),) and report.fit.buffered_bytes is None
    assert FitReport.from_dict(report.to_dict()) == report
    assert "-434" not in report.html() + fit_text(report, 1000)


def test_a_counter_of_estimates_never_falls() -> None:
    clock, metrics, shown = Clock(), Metrics(), []
    highest: Highest = {}
    with Sampler([]) as sampler:
        recorder = Recorder(sampler, lambda: None, lambda: (), lambda one: show_instant(metrics, highest, one))
        for clock.work in (Work(10, 10, 1.0, 1.0), Work(20, 20, 0.5, 0.5), Work(40, 12, 1.2, 1.2)):
            recorder.take()
            (family,) = (one for one in metrics.families() if one.name.endswith("step_cpu_seconds_total"))
            shown.append([seconds for labels, seconds in family.values if labels["dataset"].endswith("train.py:3")])
    own = [max(seconds) for seconds in shown]
    assert clock.watched and own == [1.0, 1.0, pytest.approx(4.0)]
