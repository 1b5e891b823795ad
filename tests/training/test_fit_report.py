"""A fit's report as JSON: read back it is what it was, by its class and by ``greenload report``; damage is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mutations
import pytest
from known_fits import fit, known, small_model
from known_spans import fit_report, part
from mutations import Mutation, faults

import greenload as gl
from greenload import cli
from greenload.energy.figures import Figure
from greenload.report.data import Report
from greenload.report.validation import FIT_SCHEMA, schema
from greenload.training.drift import drifts
from greenload.training.fit_report import FitReport, fit_text, load_report
from greenload.training.timeline import Timeline

pytest.importorskip("jinja2")


def batches(watched: bool) -> Any:
    import numpy as np
    import tensorflow as tf

    rows = np.random.default_rng(0).random((40, 8), np.float32)
    data = tf.data.Dataset.from_tensor_slices(rows).map(lambda row: (row * 2.0, row[:1])).batch(4).prefetch(2)
    return gl.watch(data) if watched else data


@pytest.mark.slow
@pytest.mark.parametrize("watched", [True, False])
def test_the_callbacks_json_gives_the_callbacks_own_page_and_table(
    watched: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    energy = gl.EnergyCallback(None if watched else known(cpu_s=1e-6), idle_s=0)
    fit(small_model(), batches(watched), energy, epochs=2, validation_data=batches(watched))
    report, saved, own, page = energy.report, *(tmp_path / name for name in ("fit.json", "own.html", "page.html"))
    report.save(saved)
    report.save_html(own)
    assert report.fit.is_watched == watched == (report.timeline is not None)
    assert FitReport.load(saved).to_dict() == report.to_dict() == load_report(saved).to_dict()

    copy = tmp_path / "copy.json"
    assert cli.main(["report", str(saved), "--html", str(page), "--json", str(copy)]) == 0
    assert page.read_bytes() == own.read_bytes() and copy.read_bytes() == saved.read_bytes()
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    table = [line.rstrip() for line in fit_text(report, 120).splitlines()]
    assert shown[: len(table)] == table and "fit of small" in table[0] and "written: " in shown[len(table)]


def test_a_file_of_before_lacks_what_came_later() -> None:
    data = fit_report().to_dict()
    for name in ("timeline", "drift", "ended"):
        del data[name]
    for name in ("void", "buffers", "does_not_fit", "validation_steps", "pace"):
        del data["fit"][name]
    again = FitReport.from_dict(data)
    assert again.timeline is None and again.drift == () and again.fit.buffers == () and again.html()


def test_the_schema_is_one_and_types_what_is_written() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(schema(FIT_SCHEMA))
    assert schema(FIT_SCHEMA)["properties"]["schema"]["const"] == FIT_SCHEMA
    Draft202012Validator(schema(FIT_SCHEMA)).validate(fit_report().to_dict())


@pytest.fixture(scope="module")
def use() -> Callable[[FitReport], None]:
    """Shows a fit's report in every way, and holds fits against it."""
    spent = fit_report(spans=4).fit

    def used(report: FitReport) -> None:
        assert fit_text(report) and report.html()
        held = replace(fit_report(spans=4), drift=drifts(spent, report.fit))
        assert FitReport.from_dict(json.loads(json.dumps(held.to_dict(), allow_nan=False))) == held
        again = json.loads(json.dumps(report.to_dict(), allow_nan=False))
        assert FitReport.from_dict(again).to_dict() == again

    return used


def document(watched: bool = True) -> Any:
    """A fit's report of few spans as plain data, with every part; or one on a profile, without clocks."""
    report = fit_report(spans=4)
    if not watched:
        fit_ = replace(report.fit, steps=(part("parse", 2.0, 1.0), part("in no step", 1.0, 0.2)), validation_steps=())
        report = replace(report, fit=fit_, epochs=(fit_, fit_), profile="a pipeline", timeline=None, drift=())
    void = replace(report.fit, void={"gpu:0": "its counter failed"}, notes=("a note",), does_not_fit="it claims more")
    return json.loads(json.dumps(replace(report, fit=void, ended="KeyboardInterrupt").to_dict()))


COSTS = {
    "below zero": Figure(-1e-6, -3e-6, 1e-6, "measured"),
    "next to zero": Figure(5e-324, 5e-324, 5e-324, "measured"),
    "a ratio beyond the schema": Figure(1e-30, 1e-30, 1e-30, "measured"),
    "zero or more": Figure(5e-324, 0.0, 1.0, "measured"),
}
"""A step's CPU seconds in a baseline that a fit can't be held against."""


@pytest.mark.slow
def test_a_damaged_report_is_refused_or_is_shown(use: Callable[[FitReport], None]) -> None:
    cases = mutations.some(document(), 300, 5) + mutations.some(document(False), 100, 6)
    total = document(False)
    total["fit"]["total"]["energy_j"] = {}  # no domain of the loader's
    cases.append(Mutation("a total without domains", total))
    for what, cost in COSTS.items():
        costless = document()
        costless["fit"]["steps"][0]["cpu_s_per_call"] = cost.to_dict()
        cases.append(Mutation(what, costless))
    assert faults(cases, lambda case: FitReport.from_dict(case.data), use, (gl.ReportError,)) == []


@pytest.mark.slow
def test_what_passes_the_schema_is_shown(use: Callable[[FitReport], None]) -> None:
    """Numbers and texts, which are not refused for their type."""
    words = ("zero", "one", "half", "smallest", "large", "2 to the 63", "no text", "a word", "control", "surrogate")

    def kept(what: str) -> bool:
        return any(word in what.split(": ")[-1] for word in words)

    cases = mutations.some(document(), 300, 3, kept) + mutations.some(document(False), 100, 4, kept)
    assert faults(cases, lambda case: FitReport.from_dict(case.data), use, (gl.ReportError,)) == []


@pytest.mark.slow
def test_a_damaged_profile_is_refused_or_is_a_baseline() -> None:
    """By its steps, whose costs are what a fit is held against."""
    profile, spent = known(), fit_report(spans=4).fit
    profile = replace(profile, steps=tuple(replace(profile.steps[0], name=name) for name in ("decode", "crop")))
    assert len(drifts(spent, profile)) == 2

    def used(report: Report) -> None:
        json.dumps([drift.to_dict() for drift in drifts(spent, report)], allow_nan=False)

    cases = list(mutations.mutations(profile.to_dict(), lambda what: what.startswith(("['steps']", "['plan']"))))
    for what, cost in COSTS.items():
        data = profile.to_dict()
        data["steps"][0]["cpu_s_per_sample"] = cost.to_dict()
        cases.append(Mutation(what, data))
    assert faults(cases, lambda case: Report.from_dict(case.data), used, (gl.ReportError,)) == []


def test_a_fit_ends_beside_a_baseline_whose_step_took_less_than_nothing() -> None:
    data, first = batches(watched=True), gl.EnergyCallback(idle_s=0)
    fit(small_model(), data, first, epochs=1)
    (name,) = (one.name for one in first.report.fit.steps)
    profile = known(cpu_s=1e-6)
    for cost in COSTS.values():
        before = replace(profile, steps=(replace(profile.steps[0], name=name, cpu_s_per_sample=cost),))
        energy = gl.EnergyCallback(baseline=before, idle_s=0)
        fit(small_model(), data, energy, epochs=1)
        assert energy.report.fit.is_watched and energy.report.drift == ()


@pytest.mark.slow
def test_a_fit_on_strings_whose_bytes_tensorflow_miscounts_is_saved_and_shown(tmp_path: Path) -> None:
    import tensorflow as tf

    def read(number: tf.Tensor) -> tf.Tensor:
        return tf.strings.join([tf.strings.as_string(number)] * 40)

    def parsed(text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        digit = tf.strings.to_number(tf.strings.substr(text, 0, 1))[:, tf.newaxis]
        return tf.repeat(digit, 8, 1), digit

    texts = tf.data.Dataset.range(4000).map(read, num_parallel_calls=2).batch(32)
    energy, saved = gl.EnergyCallback(idle_s=0), tmp_path / "fit.json"
    fit(small_model(), gl.watch(texts.map(parsed).prefetch(2)), energy, epochs=2)
    report = energy.report
    assert [one.bytes for one in report.fit.buffers if one.name == "MapAndBatch"] == [None]
    report.save(saved)
    assert FitReport.load(saved).to_dict() == report.to_dict()
    assert "RAM unknown, as TensorFlow miscounts it" in report.html()


def test_spans_without_a_value_are_refused() -> None:
    timeline = fit_report().timeline
    assert timeline is not None
    for changed in ({"end_s": ()}, {"waiting": timeline.waiting[1:]}, {"testing": (False,)}):
        with pytest.raises(gl.UsageError, match="a value for each of its 20 spans"):
            replace(timeline, **changed)
    row = replace(timeline.rows[0], watts=())
    with pytest.raises(gl.ReportError, match=r"figures must make sense: .* 20 spans, found 0"):
        FitReport.from_dict({**fit_report().to_dict(), "timeline": {**timeline.to_dict(), "rows": [row.to_dict()]}})
    assert Timeline((0.0,), (1.0,), (), (None,), (None,)).testing == ()


@pytest.fixture
def folder(tmp_path: Path, measured: Report, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of several kinds, in the working folder."""
    monkeypatch.chdir(tmp_path)
    fit_report().save("fit.json")
    measured.save("profile.json")
    whole = Path("fit.json").read_text()
    Path("cut.json").write_text(whole[: len(whole) // 2])
    data = json.loads(whole)
    changes: dict[str, dict[str, Any]] = {
        "newer": {"schema": "greenload.fit/2"},
        "watch": {"schema": None, "format": "greenload.watch/1"},
        "odd": {"fit": {**data["fit"], "wall_s": "long"}},
    }
    for name, change in changes.items():
        Path(f"{name}.json").write_text(json.dumps({**data, **change}))
    Path("empty.json").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["gone.json"], 1, "gone.json: the report can't be read: No such file"),
        (["cut.json"], 1, "cut.json: a report is JSON, but it is no JSON: "),
        (["empty.json"], 1, "empty.json: a report is JSON, but it is no JSON: "),
        (["newer.json"], 1, "this greenload reads greenload.fit/1, found greenload.fit/2: use the release that wrote"),
        (["watch.json"], 1, "greenload.report/1, found greenload.watch/1: give a file that greenload profile --json"),
        (["odd.json"], 1, "a fit's report follows greenload.fit/1, but $.fit.wall_s: 'long' is not of type 'number'"),
        (["profile.json", "fit.json"], 1, "fit.json: a report follows greenload.report/1, found greenload.fit/1"),
        (["fit.json", "profile.json"], 2, "is a fit's report, which is shown by itself: leave profile.json out"),
        (["fit.json", "--carbon"], 2, "leave --carbon out"),
        (["fit.json", "--budget", "cpu_s_per_sample<=1"], 2, "leave --budget out"),
        (["fit.json", "--baseline", "profile.json"], 2, "leave --baseline out"),
        (
            ["profile.json", "--baseline", "fit.json"],
            1,
            "fit.json: a report follows greenload.report/1, found greenload",
        ),
        (["fit.json", "--html", "fit.json"], 2, "fit.json: is what is read"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_bad_input_is_one_line(
    arguments: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("fit.json").read_bytes()
    assert cli.main(["report", *arguments]) == status
    out, err = capsys.readouterr()
    assert err.startswith("greenload: error: ") and len(err.splitlines()) == 1 and says in err, err
    assert out == "" and Path("fit.json").read_bytes() == before


@pytest.mark.usefixtures("folder")
def test_a_baseline_is_of_either_kind_and_what_is_wrong_with_one_is_said() -> None:
    for name in ("fit.json", "profile.json"):
        gl.EnergyCallback(baseline=name)
    with pytest.raises(gl.ReportError, match=r"odd.json: a fit's report follows greenload.fit/1, but \$.fit.wall_s"):
        gl.EnergyCallback(baseline="odd.json")
    with pytest.raises(gl.ReportError, match=r"found greenload.report/1: give a file that EnergyCallback"):
        FitReport.load("profile.json")
