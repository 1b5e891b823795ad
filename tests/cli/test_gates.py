"""Budgets, baselines and serving on the command line: exit statuses, one line of reason, and nothing asked in vain."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from greenload import cli
from greenload.cli.serve_options import Serving, serving
from greenload.energy.emulators.replay_meter import ReplayMeter
from greenload.energy.figures import Figure
from greenload.energy.meters.base import Channel, MeterStatus
from greenload.energy.sampler import Sampler
from greenload.report.data import Report


@pytest.fixture
def files(measured: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the working one, with old.json and new.json, whose decode costs twice."""
    source, decode, *rest = measured.steps
    dearer = replace(decode, cpu_s_per_sample=Figure(0.0017, 0.0016, 0.0018, "measured"))
    measured.save(tmp_path / "old.json")
    replace(measured, steps=(source, dearer, *rest)).save(tmp_path / "new.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_budget_that_is_kept(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = ["--budget", "cpu_s_per_sample<=0.01", "--budget", "energy_j_per_sample.cpu<=1"]
    assert cli.main(["report", "new.json", *rules, "--json", "out.json"]) == 0
    captured = capsys.readouterr()
    assert "met: cpu_s_per_sample<=0.01, found 0.0022" in captured.out and captured.err == ""
    assert [check.outcome for check in Report.load("out.json").checks] == ["met", "met"]


def test_a_budget_that_is_not(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = ["--budget", "cpu_s_per_sample<=0.001", "--budget", "energy_j_per_sample.gpu:7<=1"]
    assert cli.main(["report", "new.json", *rules, "--html", "out.html"]) == 1
    captured = capsys.readouterr()
    assert "missing: energy_j_per_sample.gpu:7<=1" in captured.out
    error = captured.err.strip()
    assert error.startswith("greenload: error: exceeded: cpu_s_per_sample<=0.001, found 0.0022") and "\n" not in error
    assert error.endswith("weighs most: Decode + crop, 55 % of the steps (and 1 more)")
    assert "cpu_s_per_sample&lt;=0.001" in Path("out.html").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("reader", "says"),
    [
        ("| head -1", "exceeded: cpu_s_per_sample<=1e-9"),
        ("| true", "exceeded: cpu_s_per_sample<=1e-9"),
        ("2>&1 | true", ""),
        ("> /dev/full", "standard output can't be written: No space left on device"),
    ],
)
def test_whoever_stops_reading_loses_neither_the_files_nor_the_status(reader: str, says: str, files: Path) -> None:
    arguments = "report new.json --budget 'cpu_s_per_sample<=1e-9' --json out.json --html out.html"
    command = f"{sys.executable} -m greenload.cli {arguments} {reader}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert says in done.stderr and len(done.stderr.splitlines()) == bool(says)
    assert Report.load("out.json").checks[0].failed and "1e-9" in Path("out.html").read_text()


def test_a_page_that_cannot_be_written_still_shows_the_report(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert cli.main(["report", "new.json", "--html", "out.html"]) == 1
    captured = capsys.readouterr()
    assert "Decode + crop" in captured.out and "written" not in captured.out
    remedy = "free some space, or choose another path"
    assert captured.err == f"greenload: error: out.html: can't be written: No space left on device; {remedy}\n"


def test_what_cannot_be_told_is_a_warning(files: Path, measured: Report, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["report", "old.json", "--budget", f"cpu_s_per_sample<={measured.total.cpu_s_per_sample.value!r}"]
    assert cli.main([*arguments, "--strict"]) == 1
    assert "error: 1 of 1 checks can't be decided" in capsys.readouterr().err
    assert cli.main(arguments) == 0
    error = capsys.readouterr().err.strip()
    assert error.startswith("greenload: warning: 1 of 1 checks can't be decided: undecided: cpu_s_per_sample<=")
    assert "--precision" in error and "\n" not in error


def test_a_baseline_names_what_grew(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["report", "new.json", "--baseline", "old.json", "--budget", "cpu_s_per_sample<=0.001"]
    assert cli.main([*arguments, "--json", "out.json"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "grew most: Decode + crop, by 0.85" in out
    checks = Report.load("out.json").checks
    assert [check.rule for check in checks if check.failed] == [
        "cpu_s_per_sample<=0.001",
        "baseline old.json",
        'steps."Decode + crop".cpu_s_per_sample<=baseline',
    ]
    assert cli.main(["report", "new.json", "--baseline", "old.json", "--tolerance", "100%"]) == 0
    assert cli.main(["report", "old.json", "--baseline", "old.json", "--tolerance", "0"]) == 0


def test_a_saved_outcome_is_shown_and_fails_only_where_asked(files: Path) -> None:
    assert cli.main(["report", "new.json", "--budget", "cpu_s_per_sample<=0.001", "--json", "out.json"]) == 1
    assert cli.main(["report", "out.json"]) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["report", "new.json", "--budget", "cpu<=1"], 2, "is of cpu_s_per_sample"),
        (["report", "new.json", "--budget"], 2, "--budget"),
        (["report", "new.json", "old.json", "--budget", "cpu_s_per_sample<=1"], 2, "leave old.json out"),
        (["report", "new.json", "--tolerance", "5%"], 2, "give --baseline too"),
        (["report", "new.json", "--strict"], 2, "give --budget or --baseline too"),
        (["report", "new.json", "--baseline", "old.json", "--tolerance", "-1"], 2, "must be a share"),
        (["report", "new.json", "--baseline", "old.json", "--tolerance", "nan"], 2, "must be a share"),
        (["report", "new.json", "--baseline", "old.json", "--tolerance", "5"], 2, "found 5: write 0.05 for 5 %"),
        (["profile", "no/such.py:train", "--baseline", "old.json", "--tolerance", "150%"], 2, "a share, 0 to 1"),
        (["report", "new.json", "--baseline", "gone.json"], 1, "gone.json: the report can't be read"),
        (["report", "new.json", "--baseline", "old.json", "--json", "old.json"], 2, "is the baseline"),
        # Before the pipeline is even looked for:
        (["profile", "no/such.py:train", "--budget", "cpu_s_per_sample<1ms"], 2, "and a number"),
        (["profile", "no/such.py:train", "--baseline", "gone.json"], 1, "gone.json"),
        (["profile", "no/such.py:train", "--serve", "nonsense"], 2, "PORT or HOST:PORT"),
        (["profile", "--serve", "imagenet:train"], 2, "before a pipeline's name write --serve=9464"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], status: int, says: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("old.json").read_bytes()
    assert cli.main(arguments) == status
    error = capsys.readouterr().err.strip()
    assert error.startswith("greenload: error: ") and len(error.splitlines()) == 1 and says in error
    assert Path("old.json").read_bytes() == before


def test_a_taken_port_is_told_before_any_work(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["profile", "no/such.py:train", "--serve", str(port)]) == 2
    assert f"127.0.0.1:{port} can't be served on" in capsys.readouterr().err


BRIEF = """
from greenload.cli import main
from greenload.profiling import profile, schedule, windows
windows.WINDOW_S, windows.BUILDS, profile.TRIED = 0.03, 1, 0
schedule.CLOCKED_WINDOW_S, schedule.BUILDS, schedule.PASS_BUILDS = 0.03, 1, 1
raise SystemExit(main())
"""
"""The command with short windows and no trials, which have their own tests."""
PIPELINE = """
import numpy as np
import greenload as gl
pixels = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
train = gl.Pipeline(gl.Arrays(pixels, np.arange(64)), gl.Batch(8))
"""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_serving_ends_well_when_interrupted(sent: signal.Signals) -> None:
    pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")
    code = """
from greenload.cli.serve_options import serving
with serving("0") as served:
    served.until_interrupted()
print("went on")
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            url = process.stderr.readline().split()[1]
            assert process.stderr.readline() == f"serving {url} until interrupted\n"
            process.send_signal(sent)
            assert (process.stdout.read(), process.stderr.read(), process.wait(60)) == ("went on\n", "", 0)
        finally:
            process.kill()


def test_what_is_served_are_the_profiles_own_counters() -> None:
    pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")
    status = MeterStatus("gpu:0", "measured", True, "a counter", "", "nvml")
    counters = [{"gpu:0": joules} for joules in (0.0, 0.0, 2.0, 5.0)]
    channel = Channel("gpu:0", "measured", max_power_w=1e9)

    def joules(served: Serving) -> list[float]:
        return [v for one in served.metrics.families() if "energy_joules" in one.name for _, v in one.values]

    before = threading.active_count()
    with serving("0") as served:
        assert served is not None and joules(served) == []
        assert not [one for one in threading.enumerate() if one.name == "greenload-sampler"], (
            "none beside the profile's"
        )
        with Sampler([ReplayMeter([channel], counters)], period_s=600) as sampler, served.watch(sampler, [status]):
            assert joules(served) == [2.0]
        assert joules(served) == [5.0], "read a last time before the sampler stopped"
    assert threading.active_count() == before


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_profile_is_served_while_it_runs_and_until_it_is_stopped(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")
    from prometheus_client.parser import text_string_to_metric_families

    file, report = tmp_path / "mine.py", tmp_path / "r.json"
    file.write_text(PIPELINE)
    command = [sys.executable, "-c", BRIEF, "profile", f"{file}:train", "--samples", "16", "--rounds", "2"]
    command += ["--serve", "0", "--budget", "energy_j_per_sample.gpu:99<=1", "--json", str(report)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            said = process.stderr.readline()
            assert said.startswith("serving http://127.0.0.1:")
            url = said.split()[1]
            drain = threading.Thread(target=process.stdout.read)
            drain.start()
            seen: list[dict[str, float]] = []
            deadline = time.monotonic() + 240
            while time.monotonic() < deadline:
                with urllib.request.urlopen(url, timeout=60) as answer:
                    text = answer.read().decode()
                found = {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples}
                seen.append(found)
                if "greenload_pipeline_cpu_seconds_per_sample" in found:
                    break
                time.sleep(0.1)
            said = ""
            while "until interrupted" not in said:  # from here on a signal ends it well
                said += (line := process.stderr.readline())
                assert line, said
            process.send_signal(signal.SIGTERM)
            said += process.stderr.read()
            assert process.wait(60) == 1, said
            drain.join(60)
        finally:
            process.kill()
    assert f"serving {url} until interrupted" in said and "Traceback" not in said
    assert any(0 < one.get("greenload_profile_progress_ratio", 0) < 1 for one in seen)
    counted = [found for one in seen if (found := one.get("greenload_process_cpu_seconds_total")) is not None]
    assert counted == sorted(counted) and counted[-1] > counted[0]
    assert seen[-1]["greenload_check"] == 1.0
    assert Report.load(report).total.cpu_s_per_sample.value == seen[-1]["greenload_pipeline_cpu_seconds_per_sample"]
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=5)
