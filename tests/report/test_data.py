"""Reports as data: by the schema, the same after a round trip, and one clear line for files that aren't reports."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from report_strategies import reports

from greenload import cli
from greenload.errors import ReportError, UsageError
from greenload.report.data import Report
from greenload.report.validation import SCHEMA, schema, validate


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(reports())
def test_any_report_survives_json(report: Report) -> None:
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert Report.from_dict(data) == report


def test_the_packaged_schema_is_a_schema_and_names_the_version() -> None:
    Draft202012Validator.check_schema(schema())
    assert schema()["properties"]["schema"]["const"] == SCHEMA


def test_produced_reports_follow_the_schema(make_report: Callable[..., Report]) -> None:
    for options in ({}, {"counter": False}, {"missing": 0.3}):
        Draft202012Validator(schema()).validate(make_report(**options).to_dict())


def test_a_file_holds_everything(measured: Report, hostile: Report, tmp_path: Path) -> None:
    for report in (measured, hostile):
        report.save(tmp_path / "report.json")
        again = Report.load(tmp_path / "report.json")
        assert again == report
        assert again.steps[0].cpu_s_per_sample.value == report.steps[0].cpu_s_per_sample.value


def test_a_report_in_a_console_is_a_line(measured: Report, modelled: Report, hostile: Report) -> None:
    assert repr(measured).startswith("Report(imagenet:train on tf, 512 samples, 5 steps: 2.21 CPU ms a sample, ")
    assert "cpu:package-0 43 mJ measured" in repr(measured) and "storage:nvme0n1 0.143 mJ modelled" in repr(measured)
    assert all("\n" not in repr(one) and len(repr(one)) < 400 for one in (measured, modelled, hostile))
    bare = dataclasses.replace(measured, pipeline={}, plan={})
    assert repr(bare).startswith("Report(pipeline, 512 samples")


def test_the_json_has_the_shape_of_the_data(measured: Report) -> None:
    data = measured.to_dict()
    assert data["steps"][0]["cpu_s_per_sample"]["value"] == measured.steps[0].cpu_s_per_sample.value
    assert data["machine"]["cpu_model"] == measured.machine.cpu_model
    assert data["full"]["samples_per_s"]["low"] == measured.full.samples_per_s.low
    assert data["idle"]["power_w"]["cpu:package-0"]["unresolved"] is False


def test_what_came_later_may_be_absent(measured: Report, make_report: Callable[..., Report]) -> None:
    """A file of an earlier release: neither reads, nor start times, nor advice; they read as unknown, not as zero."""
    data = make_report(counted=True).to_dict()
    for cost in (*data["steps"], data["full"], data["total"], data["unattributed"]):
        del cost["reads_per_sample"]
    for step in data["steps"]:
        del step["branch"], step["where"]
    for window in data["windows"]:
        del window["start_ns"], window["reads"]
    del data["advice"]
    found = Report.from_dict(data)
    assert found.full.reads_per_sample.value is None and found.steps[0].reads_per_sample.unresolved
    assert {(window.start_ns, window.reads) for window in found.windows} == {(None, None)}
    assert found.advice == () and found.steps[0].where == ""
    assert found.full.cpu_s_per_sample == measured.full.cpu_s_per_sample


def test_what_steps_counted_themselves_is_in_the_json_only_where_they_did(measured: Report, clocked: Report) -> None:
    data = clocked.to_dict()
    assert [step.get("in_place", {}).get("cpu_s_per_sample", {}).get("value") for step in data["steps"]] == [
        None, 0.0006, 0.00126, 0.0, None,
    ]  # fmt: skip
    assert Report.from_dict(data) == clocked
    own = {"Decode + crop": 0.3}
    windows = tuple(dataclasses.replace(one, counted_s=own) if one.kind == "full" else one for one in clocked.windows)
    counted = dataclasses.replace(clocked, windows=windows)
    assert Report.from_dict(counted.to_dict()) == counted
    assert {"counted_s" in one for one in counted.to_dict()["windows"] if one["kind"] != "full"} == {False}
    assert "in_place" not in str(measured.to_dict()) and "counted_s" not in str(measured.to_dict())


def test_unattributed_is_named_by_kind_and_only_above_the_limit(
    make_report: Callable[..., Report], measured: Report, modelled: Report
) -> None:
    assert measured.unattributed_exceeds() == {}, "noise of an idle GPU is no finding"
    assert modelled.unattributed_exceeds() == {}
    found = make_report(missing=0.2).unattributed_exceeds()
    assert found["cpu_s"] == pytest.approx(0.17, abs=0.02)
    assert "cpu:package-0" in found and "storage:nvme0n1" not in found
    assert make_report(missing=-0.2).unattributed_exceeds()["cpu_s"] < -0.05


def broken(data: dict[str, Any], *path: Any, value: Any = ...) -> dict[str, Any]:
    changed = copy.deepcopy(data)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return changed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("schema",), "greenload.report/2", "greenload.report/2"),
        (("schema",), "greenload.report/\n2", "greenload.report"),
        (("schema",), ..., "schema"),
        (("windows", 0, "cpu_s"), float("nan"), "NaN"),
        (("windows", 0, "energy_j", "gpu:0"), float("inf"), "Infinity"),
        (("steps", 0, "method"), "guess", r"\$\.steps\[0\]\.method"),
        (("steps", 0, "cpu_s_per_sample", "provenance"), "felt", "provenance"),
        (("steps", 0, "cpu_s_per_sample", "low"), 1e9, "interval"),
        (("steps", 0, "cpu_s_per_sample", "value"), None, "all or none"),
        (("steps", 0, "stages"), 3, r"steps\[0\]\.stages: 3 is not of type .array"),
        (("samples",), 0, "samples"),
        (("created",), "yesterday", "yesterday"),
        (("created",), "2026-03-01T12:00:00", "offset"),
        (("total", "energy_j_per_sample", "moon:0"), {}, "moon"),
        (("windows", 0, "wall_ns"), 0, "0 ns"),
        (("windows", 0, "energy_j", "gpu:0"), "much", "number"),
        (("windows", 0, "void"), None, "void"),
        (("windows", 0, "kind"), "warm\nup", "warm"),
        (("machine", "cpus"), ..., "cpus"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    measured: Report, tmp_path: Path, path: tuple[Any, ...], value: Any, said: str
) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(broken(measured.to_dict(), *path, value=value)))
    with pytest.raises(ReportError, match=said) as caught:
        Report.load(file)
    message = str(caught.value)
    assert message.startswith(str(file)) and len(message.splitlines()) == 1 and len(message) < 600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"3",
        b'{"schema": NaN}',
        b"[" * 100_000,
        b'{"schema": 1e999}',
        b'"a\\n"',
    ],
)
def test_files_that_are_no_reports_are_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_bytes(content)
    with pytest.raises(ReportError) as caught:
        Report.load(file)
    assert str(caught.value).startswith(str(file))
    assert len(str(caught.value).splitlines()) == 1


def test_a_path_that_cannot_be_read_or_written_is_named(measured: Report, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"none\.json: .*No such file"):
        Report.load(tmp_path / "none.json")
    with pytest.raises(ReportError, match=r"report\.json: .*choose another path"):
        measured.save(tmp_path / "no" / "report.json")


def test_what_json_cannot_hold_is_never_written(measured: Report, tmp_path: Path) -> None:
    report = dataclasses.replace(measured, plan={"threads": float("nan")})
    with pytest.raises(ReportError, match="JSON"):
        report.save(tmp_path / "report.json")
    assert not (tmp_path / "report.json").exists()


def test_validation_alone_refuses_too(measured: Report) -> None:
    validate(measured.to_dict())
    with pytest.raises(ReportError):
        validate(broken(measured.to_dict(), "windows"))


def test_a_report_without_samples_cannot_be_made(measured: Report) -> None:
    with pytest.raises(UsageError, match="at least one sample"):
        dataclasses.replace(measured, samples=0)


def test_a_report_may_come_from_a_pipe_but_not_without_end(
    tmp_path: Path, measured: Report, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, pipe = tmp_path / "a.json", tmp_path / "pipe"
    measured.save(file)
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(file.read_bytes()))
    writer.start()
    assert Report.load(pipe) == Report.load(file)
    writer.join(30)
    monkeypatch.setattr("greenload.system.json_data.LARGEST_BYTES", 1 << 20)
    with pytest.raises(ReportError, match="it holds more than the 1 MB that are read; check the path"):
        Report.load("/dev/zero")
    assert cli.main(["report", str(file), "--baseline", "/dev/zero"]) == 1
    assert "can't be read: it holds more" in capsys.readouterr().err


def test_a_report_that_cant_be_written_leaves_the_one_before(
    tmp_path: Path, measured: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page = tmp_path / "a.json", tmp_path / "a.html"
    measured.save(file)
    before = file.read_bytes()
    page.write_text("before")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))  # as on a full disk
    try:
        with pytest.raises(ReportError, match=r"a\.json: the report can't be written: File too large; choose another"):
            measured.save(file)
        assert cli.main(["report", str(file), "--html", str(page)]) == 1
        assert "a.html: can't be written: File too large; choose another path" in capsys.readouterr().err
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (file.read_bytes(), page.read_text()) == (before, "before")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.html", "a.json"]
