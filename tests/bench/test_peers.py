"""The peers of ``bench.peers``: their environments, the protocol, what is made of windows, and those that run here."""

from __future__ import annotations

import functools
import importlib.util
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from bench.by_hand import Workload
from bench.contest import same_looks
from bench.peers import __main__ as command
from bench.peers import chart, environments, results, roster, running, worker
from bench.peers.roster import ANTIALIASED, CACHED, CONTESTANTS, GROUPS, OURS, STREAMING, Work
from bench.peers.running import PeerWindow
from bench.photographs import workload
from tools import set_up

MODULES = {"tfdata": "tensorflow", "dali": "nvidia.dali", "floor": "simplejpeg"}
"""Contestants that run in the environment of the tests, where it has their library."""
HERE = [one for one in CONTESTANTS if one.batches.partition(":")[0] in MODULES]
LOOKED_AT = 240
BURN = """
import sys, time
while time.process_time() < 0.5: pass
print("done", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def work(sample_folder: Path) -> Workload:
    return replace(workload(str(sample_folder), 16, 2), prefetch=1)


@pytest.fixture(scope="module")
def ours(work: Workload, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What greenload's batches of a group are; each group's are made once."""
    pytest.importorskip("tensorflow")
    folder = str(tmp_path_factory.mktemp("ours"))
    made = functools.partial(worker.made, roster.named(OURS))
    return functools.cache(lambda group: worker.look(made(worker.Task(group, work, folder)), LOOKED_AT))


def window(contestant: str, turn: int, cpu_s: float, group: str = STREAMING, settled: bool = True) -> PeerWindow:
    return PeerWindow(group, contestant, 0, turn, 100, cpu_s, 0.5, settled, paced_images=50)


def test_every_contestant_has_an_environment_with_pinned_packages_and_what_its_versions_are_read_of():
    names = {one.name for one in environments.ENVIRONMENTS}
    assert {one.environment for one in CONTESTANTS} == {*names, roster.OWN}
    for environment in environments.ENVIRONMENTS:
        lines = environment.requirements.read_text().splitlines()
        pins = [line for line in lines if not line.startswith("#")]
        assert pins and all(re.fullmatch(r"[\w.\-]+==[\w.]+", pin) for pin in pins), environment.name
        for one in (one for one in CONTESTANTS if one.environment == environment.name):
            below = next(
                (e.requirements.read_text() for e in environments.ENVIRONMENTS if e.name == environment.on), ""
            )
            there = {pin.partition("==")[0].lower().replace("_", "-") for pin in [*pins, *below.splitlines()]}
            assert one.distributions and {name.lower().replace("_", "-") for name in one.distributions} <= there
    assert {one.stem for one in environments.REQUIREMENTS.iterdir()} == names


def test_who_does_other_work_says_what():
    for one in CONTESTANTS:
        assert set(one.groups) <= set(GROUPS)
        for work_of in one.groups.values():
            assert (work_of.kind == "same") == (not work_of.why), one.name
    assert Work("less", "no antialias").label == "less: no antialias" and Work().label == ""


def test_an_environment_is_made_once_and_anew_when_it_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "peers")
    monkeypatch.setenv("CI", "")
    commands: list[list[str]] = []
    environment = environments.named("floor")

    def run(command: list[str], why: str, env: Any = None) -> None:
        commands.append(command)
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True)
            (Path(command[-1]) / "bin" / "python").touch()

    monkeypatch.setattr(set_up, "run", run)
    assert environments.main(["floor"]) == 0
    assert [command[2] for command in commands] == ["venv", "pip", "import cv2, simplejpeg"]
    assert environments.main(["floor"]) == 0 and len(commands) == 3
    assert environments.missing("floor") == ""
    (tmp_path / "peers" / "floor" / "bin" / "python").unlink()
    assert "make bench-peers" in environments.missing("floor")
    assert environments.main(["floor"]) == 0 and len(commands) == 6
    environments.part(environment).stamp.write_text("of other versions")
    assert "make bench-peers" in environments.missing("floor"), "half made, or of other versions"


def test_what_cant_be_installed_is_named_and_nothing_of_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "peers")
    monkeypatch.setenv("CI", "")
    tries: list[str] = []

    def run(command: list[str], why: str, env: Any = None) -> None:
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True)
            (Path(command[-1]) / "bin" / "python").touch()
        else:
            tries.append(why)
            raise set_up.PartFailed(f"{why}: no such version")

    monkeypatch.setattr(set_up, "run", run)
    assert environments.main(["grain", "ffcv"]) == 0
    said = capsys.readouterr().out
    assert "Environment grain (a few seconds) ... left out: pip failed: no such version" in said
    assert "left out: it needs the environment torch, which isn't there" in said
    assert environments.missing("grain") == "its environment grain can't be had: pip failed: no such version"
    assert not (tmp_path / "peers" / "grain").exists() and tries == ["pip failed"]
    assert environments.main(["grain"]) == 0 and tries == ["pip failed"], "it isn't tried again unless asked"
    assert environments.main(["grain", "--retry"]) == 0 and tries == ["pip failed"] * 2


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads the clocks of other processes as Linux has them"
)
def test_the_cpu_time_of_children_counts_while_they_live_and_once_they_have_ended():
    before = worker.cpu_s()
    child = subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None and child.stdout is not None
    assert any(worker.at_work() or time.sleep(0.01) for _ in range(100)), "the child burns"
    assert child.stdout.readline() == "done\n"
    living = worker.cpu_s() - before
    child.communicate()
    ended = worker.cpu_s() - before
    assert 0.5 <= living <= ended < living + 0.3


def test_a_window_counts_all_batches_and_times_those_after_the_ones_held_ready():
    def batches() -> Iterator[Any]:
        for _ in range(worker.AHEAD):
            yield np.zeros((10, 4, 4, 3), np.uint8)
        while True:
            time.sleep(0.02)
            yield np.zeros((10, 4, 4, 3), np.uint8)

    found = worker.window(batches(), 25)
    assert (found["images"], found["paced_images"], found["settled"]) == (10 * worker.AHEAD + 30, 30, True)
    assert 0.06 <= found["wall_s"] < 1.0 and found["cpu_s"] < found["wall_s"] + 0.5


def test_looks_are_the_same_whichever_place_channels_have():
    batch = np.random.default_rng(0).integers(0, 256, (8, 6, 5, 3), np.uint8)
    last = worker.look(iter([batch]), 8)
    first = worker.look(iter([batch.transpose(0, 3, 1, 2)]), 8)
    assert first.pop("channels_first") and not last.pop("channels_first")
    assert first["shape"] == last["shape"] == [8, 6, 5, 3] and first["dtype"] == last["dtype"] == "uint8"
    assert [first[key] for key in ("mean", "std", "detail")] == pytest.approx(
        [last[key] for key in ("mean", "std", "detail")]
    )
    assert last["mean"] == pytest.approx(batch.mean()) and last["std"] == pytest.approx(batch.std())
    assert last["detail"] == pytest.approx(np.abs(np.diff(batch.astype(float), axis=2)).mean())


def test_a_worker_says_in_one_line_why_it_cant_run(tmp_path: Path):
    task = tmp_path / "task.json"
    work_of = {"paths": ["no/such.jpg"], "labels": [0], "batch": 1, "threads": 1, "prefetch": 1}
    foreign = next(one.name for one in CONTESTANTS if one.environment == "ffcv")
    if importlib.util.find_spec("ffcv") is not None:
        pytest.skip("FFCV is in this environment")
    task.write_text(json.dumps({"contestant": foreign, "group": STREAMING, "work": work_of, "scratch": str(tmp_path)}))
    answers = io.StringIO()
    worker.serve(str(task), io.StringIO("run 1\n"), answers)
    assert [json.loads(line) for line in answers.getvalue().splitlines()] == [
        {"error": "ModuleNotFoundError: No module named 'ffcv'"}
    ]


def test_shares_are_taken_within_rounds_and_only_the_same_work_is_held_against_the_aim():
    tuned, textbook = "tf.data, tuned", "tf.data, textbook"
    windows = [window(OURS, 0, 1.0), window(OURS, 1, 3.0), window(OURS, 2, 50.0, settled=False)]
    windows += [window(tuned, 0, 2.0), window(tuned, 1, 4.0), window(tuned, 2, 0.1)]
    windows += [window(textbook, 0, 0.5), window(textbook, 1, 1.0)]
    found = {one.contestant: one for one in results.results(windows)}
    assert list(found) == [textbook, OURS, tuned], "the cheapest first"
    share = found[tuned].share
    assert share is not None and share.median == pytest.approx((0.5 + 0.75) / 2) and found[tuned].met is True
    assert found[textbook].met is None and found[textbook].work.kind == "less"
    assert found[OURS].share is None and found[OURS].met is None
    assert found[OURS].cpu_ms.median == pytest.approx(20.0) and found[OURS].images_per_s.median == 100.0
    dear = [window(OURS, 0, 3.0), window(tuned, 0, 2.0)]
    assert [one.met for one in results.results(dear)] == [False, None]
    shown = results.table(results.results([*windows]))
    assert "less: the faster, less exact DCT" in shown and "NOT BELOW" in results.table(results.results(dear))
    apart = [window(OURS, 0, 1.0), window(tuned, 1, 1.0)]
    assert [one.contestant for one in results.results(apart)] == [OURS], "no round has both"
    assert list(results.restless(apart, results.results(apart))) == [f"{tuned}, {STREAMING}"]


def test_the_picture_says_what_differs_and_bars_are_to_scale():
    windows = [window(OURS, 0, 0.1), window("tf.data, textbook", 0, 0.4), window("tf.data, tuned", 0, 0.2)]
    found = [one.to_dict() for one in results.results(windows)]
    found[0]["contestant"] = "a < b & c"
    drawn = chart.chart(json.loads(json.dumps(found)))
    root = ElementTree.fromstring(drawn)
    space = {"s": "http://www.w3.org/2000/svg"}
    bars = {bar.attrib["class"]: float(bar.attrib["width"]) for bar in root.findall("s:rect", space)}
    assert set(bars) == {"same", "other"}
    assert bars["other"] == chart.WIDTH - chart.NAMES - chart.VALUES
    texts = ["".join(one.itertext()) for one in root.findall("s:text", space)]
    assert "a < b & c" in texts and "4.00 ms less: the faster, less exact DCT" in texts


def test_the_picture_needs_a_files_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(SystemExit):
        chart.main([str(tmp_path / "x.json"), str(tmp_path / "x.svg")])
    assert "format" in capsys.readouterr().err and not (tmp_path / "x.svg").exists()


@pytest.mark.slow
@pytest.mark.parametrize("one", HERE, ids=lambda one: one.name)
def test_contestants_do_what_greenload_does(
    one: roster.Contestant, work: Workload, ours: Callable[[str], dict[str, Any]], tmp_path: Path
):
    if importlib.util.find_spec(MODULES[one.batches.partition(":")[0]].partition(".")[0]) is None:
        pytest.skip(f"{one.name}: its library isn't in this environment")
    if "dali" in one.batches or "floor" in one.batches:
        pytest.importorskip("simplejpeg")
        pytest.importorskip("cv2")
    looks = {}
    for group in one.groups:
        looks[group] = worker.look(worker.made(one, worker.Task(group, work, str(tmp_path))), LOOKED_AT)
        reference = ours(group)
        same_looks(group, {OURS: reference, one.name: looks[group]}, LOOKED_AT)
        assert looks[group]["shape"][1:] == [224, 224, 3] and looks[group]["dtype"] == "uint8"
        # Averaging areas makes neighbours differ a little more or less than bilinear ones do.
        assert looks[group]["detail"] == pytest.approx(reference["detail"], rel=0.15), group
    assert looks[ANTIALIASED]["detail"] < looks[STREAMING]["detail"]


@pytest.mark.slow
def test_a_run_takes_turns_and_says_who_is_missing(
    work: Workload,
    sample_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    pytest.importorskip("tensorflow")
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "nothing")
    out = tmp_path / "peers.json"
    asked = ["--photos", str(sample_folder), "--batch", "16", "--window", "64", "--builds", "1", "--rounds", "2"]
    status = command.main([*asked, "--only", CACHED, "--contestants", "Grain, FFCV", "--out", str(out)])
    printed, result = capsys.readouterr().out, json.loads(out.read_text())
    assert status == 0 and "not measured: FFCV: its environment ffcv isn't there as" in printed
    assert set(result["left_out"]) == {"Grain, OpenCV", "FFCV"}
    assert [(one["contestant"], one["round"]) for one in result["windows"]] == [(OURS, 0), (OURS, 1)]
    assert all(one["images"] >= 64 + 16 * worker.AHEAD and one["cpu_s"] > 0 for one in result["windows"])
    assert result["versions"][OURS]["tensorflow"] and result["machine"]["cpu_model"]
    assert result["looks"][CACHED][OURS]["shape"] == [16, 224, 224, 3]


@pytest.mark.slow
def test_a_process_that_ends_or_keeps_silent_is_left_out(
    work: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'no room left' >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(running, "interpreter", lambda contestant: python)
    with pytest.raises(running.Failed, match="its process has ended: no room left"):
        running.Running(roster.named(OURS), CACHED, work, tmp_path / "a")
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(running.Failed, match="didn't answer within 1 s"):
        running.Running(roster.named(OURS), CACHED, work, tmp_path / "b", patience_s=1.0)


def test_an_unknown_group_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        command.arguments(["--only", "streaming,speed"])
    assert "speed" in capsys.readouterr().err
