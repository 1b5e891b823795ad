"""What a process says of its watched datasets: to the last figure, as long as it watches any, and at no one's cost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from burning import burning, wait_for

from greenload.cli import top
from greenload.cli.output import say
from greenload.errors import ReportError
from greenload.profiling.in_place import publishing
from greenload.profiling.in_place.model import Buffer, BufferWatch, verdict
from greenload.profiling.in_place.published import Gone, Idle, PublishedFile, PublishedPort, find
from greenload.profiling.in_place.status import DatasetStatus, EnergyCount, Status, from_value, span, work_joules
from greenload.profiling.in_place.watched import Moment, Watched, WatchedStep
from greenload.report.prometheus import Metrics, serve
from greenload.system import json_data, processes
from greenload.system.work import Work, WorkClock

MODEL = {"buffers": [asdict(Buffer("Prefetch", 2.0, 128.0, 2.0, None, True))], "full": 3.5, "looks": 4}


def step(name: str, work: Work) -> WatchedStep:
    return WatchedStep(name, "map", lambda: work, "train.py:31", "", "a note")


def status(time_s: float = 10.0, cpu_s: float = 5.0, calls: int = 100, **changes: Any) -> Status:
    work = Work(calls, calls, calls * 0.01, calls * 0.02, 1)
    dataset = DatasetStatus(
        3, "train.py:12", "image", [step("decode", work)], Moment(time_s, cpu_s, {"decode": work}, float(calls))
    )
    made = Status(
        pid=os.getpid(),
        identity="17",
        command=["python", "train.py"],
        started=1000.0,
        written=1010.0,
        time_s=time_s,
        cpu_s=cpu_s,
        other_cpu_s=0.0,
        datasets=[replace(dataset, unwatched={"x": "why"}, model=MODEL)],
        energy={"cpu": EnergyCount(7.0, 10.0, "modelled"), "gpu:0": EnergyCount(9.0, 10.0, "measured", 3.0)},
        machine={"cpus": 2},
        notes=["so"],
    )
    return replace(made, **changes)


def read_back(made: Status) -> Status:
    return from_value(json_data.parse(json.dumps(made.to_dict())))


def test_what_is_written_is_what_is_read() -> None:
    made = status()
    again = read_back(made)
    assert again.to_dict() == made.to_dict()
    assert again.datasets[0].steps[0].read() == Work(100, 100, 1.0, 2.0, 1)
    unseen = replace(made, datasets=[replace(made.datasets[0], moment=Moment(1.0, 1.0, {}, None))])
    assert read_back(unseen).datasets[0].moment.samples is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "greenload.status/2"}, "its format must be 'greenload.status/1', and is 'greenload.status/2'"),
        ({"pid": 0}, "pid must be an integer from 1"),
        ({"datasets": [{}]}, "datasets[0] lacks 'steps'"),
        ({"cpu_s": None}, "cpu_s must be a finite number"),
        ({"command": "python"}, "command must be a list"),
        ({"energy": {"cpu\x1b[2J": {}}}, "a domain must be a text of 1 to 255 printable characters"),
        ({"energy": {"cpu": {"joules": 1, "seconds": 1, "provenance": "guessed"}}}, "must be one of 'measured', "),
    ],
)
def test_another_document_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(json_data.DataError, match=said.replace("[", r"\[")):
        from_value(json_data.Value(status().to_dict() | change))


def test_a_span_has_the_times_and_figures_of_its_two_statuses() -> None:
    live = span(status(10.0, 5.0, 100), status(14.0, 9.0, 300))
    assert (live.wall_s, live.cpu_s, live.rest_cpu_s) == (4.0, 4.0, 2.0)
    (dataset,) = live.datasets
    assert (dataset.samples, dataset.steps[0].work.calls, dataset.steps[0].cpu_s) == (200.0, 200, 2.0)


def test_a_terminal_obeys_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[2J\r"
    work = Work(10, 10, 0.1, 0.2)
    steps = [replace(step(hostile, work), note=hostile, where=hostile)]
    first = status(10.0, 5.0)
    dataset = replace(first.datasets[0], name=hostile, steps=steps, moment=Moment(14.0, 9.0, {hostile: work}, 10.0))
    later = status(14.0, 9.0, command=[hostile], notes=[hostile], datasets=[dataset])
    say(top._table(top._Span(first, later, first)))
    shown = capsys.readouterr().out
    assert shown.count("[2J") == 7 and "\x1b" not in shown and "\r" not in shown


def test_a_dataset_that_is_new_did_all_in_the_span() -> None:
    before = status(10.0, 5.0, datasets=[])
    live = span(before, status(14.0, 9.0, 300))
    assert (live.wall_s, live.cpu_s, live.datasets[0].samples) == (4.0, 4.0, 300.0)
    gone = span(status(10.0, 5.0), status(14.0, 9.0, datasets=[]))
    assert (gone.wall_s, gone.cpu_s, gone.datasets) == (4.0, 4.0, ())


def energies(before: EnergyCount, after: EnergyCount, domain: str = "cpu", others_s: float = 4.0) -> dict[str, float]:
    first = status(10.0, 5.0, energy={domain: before})
    return work_joules(first, status(20.0, 9.0, energy={domain: after}, other_cpu_s=others_s))


def test_joules_are_those_of_the_process_s_work() -> None:
    counted = EnergyCount(10.0, 1.0, "measured", 3.0), EnergyCount(90.0, 11.0, "measured", 3.0)
    assert energies(*counted, domain="cpu:package-0") == {"cpu:package-0": 25.0}  # 80 - 30 J, half of it of others
    assert energies(*counted, domain="gpu:0") == {"gpu:0": 50.0}  # CPU time says nothing of it
    modelled = [replace(count, provenance="modelled", idle_w=None) for count in counted]
    assert energies(*modelled) == {"cpu": 80.0}
    assert energies(*(replace(count, idle_w=None) for count in counted)) == {}  # idle power and work are one figure
    assert energies(modelled[0], replace(modelled[1], seconds=9.0)) == {}  # not counted all the time
    assert work_joules(status(energy={}), status(20.0)) == {}


def test_a_step_has_no_joules_of_a_gpu() -> None:
    counts = {"cpu": EnergyCount(0.0, 0.0, "modelled"), "gpu:0": EnergyCount(0.0, 0.0, "measured", 1.0)}
    later = {"cpu": EnergyCount(8.0, 4.0, "modelled"), "gpu:0": EnergyCount(40.0, 4.0, "measured", 1.0)}
    live = span(status(10.0, 5.0, 100, energy=counts), status(14.0, 9.0, 300, energy=later))
    assert live.energy_j == {"cpu": 8.0, "gpu:0": 36.0}
    assert live.joules(2.0) == {"cpu": 4.0}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_process_tells_what_it_does_and_removes_that_at_its_end(tmp_path: Path) -> None:
    with burning(tmp_path, 3.0) as process:
        file = PublishedFile(tmp_path / f"{process.pid}.json", process.pid)
        wait_for(file.path.exists)
        wait_for(lambda: file.read().energy)
        first = file.read()
        wait_for(lambda: file.read().time_s > first.time_s + 1)
        later = file.read()
        assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
        assert (first.pid, first.command[1:]) == (process.pid, ["-c", "--epochs", "3"])
        live = span(first, later)
        decode, augment = live.datasets[0].steps
        assert decode.work.calls == live.datasets[0].samples
        assert decode.cpu_s == pytest.approx(0.003 * decode.work.calls, rel=0.2)
        assert augment.cpu_s == pytest.approx(0.001 * augment.work.calls, rel=0.2)
        assert live.rest_cpu_s < 0.2 * live.cpu_s
        assert live.joules(decode.cpu_s).keys() >= {"cpu"} or any(
            count.provenance == "measured" for count in later.energy.values()
        )
        assert process.wait(60) == 0
        assert process.stderr is not None and process.stderr.read() == ""
    assert files(tmp_path) == []


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_what_a_process_left_is_removed_by_who_looks(tmp_path: Path, end: str) -> None:
    with burning(tmp_path, 1.0, after=end) as process:
        process.wait(60)
    assert files(tmp_path) == [f"{process.pid}.json"]
    with pytest.raises(Gone, match=f"process {process.pid} has ended"):
        PublishedFile(tmp_path / f"{process.pid}.json", process.pid).read()
    assert found(tmp_path) == []
    assert files(tmp_path) == []


def found(folder: Path) -> list[int]:
    with named(folder):
        return [file.pid for file in find()]


@contextlib.contextmanager
def named(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GREENLOAD_STATUS", str(folder))
        yield


def test_a_number_that_is_another_process_s_now_is_no_process(tmp_path: Path) -> None:
    identity = processes.identity(os.getpid())
    for written, there in ((f"{identity}0", []), (identity, [os.getpid()])):
        (tmp_path / f"{os.getpid()}.json").write_text(json.dumps(status(identity=written).to_dict()))
        assert found(tmp_path) == there
    assert processes.identity(2**22 + 1) == ""


def test_a_zombie_has_ended() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    wait_for(lambda: not processes.identity(child))
    os.waitpid(child, 0)


def test_a_child_neither_writes_nor_removes_what_its_parent_says(tmp_path: Path) -> None:
    child = """
if os.fork() == 0:
    sys.exit(0)  # in order, with all that is done at the end
os.wait()
child = os.fork()
if child == 0:
    time.sleep(1)
    print(len(os.listdir(os.environ["GREENLOAD_STATUS"])), len(publishing.all_watched()), flush=True)
    mine = Watched("own", (WatchedStep("a", "map", first.read),))
    publishing.publish()
    burn(first, 0.001)
    time.sleep(1)
    both = {f"{pid}.json" for pid in (os.getppid(), os.getpid())}
    print(set(os.listdir(os.environ["GREENLOAD_STATUS"])) == both)
    sys.exit(0)
print(os.waitpid(child, 0)[1], flush=True)
burn(first, 0.001)
time.sleep(0.5)
print(os.listdir(os.environ["GREENLOAD_STATUS"]) == [f"{os.getpid()}.json"], flush=True)
"""
    with burning(tmp_path, 0.5, after=child) as process:
        out, errors = process.communicate(timeout=60)
    assert (out.split(), errors) == (["1", "0", "True", "0", "True"], "")
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_written_ends_no_training(tmp_path: Path) -> None:
    tell = """
print(publishing._teller.failure)
os.remove(os.environ["GREENLOAD_STATUS"])
time.sleep(0.5)
print(publishing._teller.failure or "fine", *os.listdir(os.environ["GREENLOAD_STATUS"]))
"""
    taken = tmp_path / "status"
    taken.write_text("mine")
    with burning(taken, 0.5, after=tell) as process:
        out, errors = process.communicate(timeout=60)
    first, second = out.splitlines()
    assert "no status file is written" in first and errors == ""
    assert second == f"fine {process.pid}.json"  # once it can be


def test_a_full_disk_ends_no_training(tmp_path: Path) -> None:
    full = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    full += "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))"
    with burning(tmp_path, 0.5, before=full, after="print(publishing._teller.failure)") as process:
        out, errors = process.communicate(timeout=60)
    assert (out, errors) == ("no status file is written: File too large\n", "")
    assert files(tmp_path) == []


def test_a_folder_of_another_s_is_not_trusted(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with burning(tmp_path, 0.5, after="print(publishing._teller.failure)") as process:
        out, _ = process.communicate(timeout=60)
    assert "only its user may write to it" in out
    assert files(tmp_path) == []
    assert found(tmp_path) == []


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    after = "import threading; print([thread.name for thread in threading.enumerate()])"
    folders = {"XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}
    with burning(tmp_path, 0.5, after=after, GREENLOAD_STATUS="off", **folders) as process:
        out, _ = process.communicate(timeout=60)
    assert out == "['MainThread']\n"
    assert files(tmp_path) == []


def test_where_the_system_gives_a_folder_it_is_used(tmp_path: Path) -> None:
    before = "os.environ.pop('GREENLOAD_STATUS')"
    with burning(tmp_path, 60.0, before=before, XDG_RUNTIME_DIR=str(tmp_path)) as process:
        wait_for((tmp_path / "greenload" / f"{process.pid}.json").exists)
        assert stat.S_IMODE((tmp_path / "greenload").stat().st_mode) == 0o700
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert files(tmp_path / "greenload") == []


def test_what_is_dropped_is_told_no_more(tmp_path: Path) -> None:
    drop = """
def files():
    time.sleep(0.5)
    return os.listdir(os.environ["GREENLOAD_STATUS"])
print(len(files()))
del watched
print(len(files()))
watched = Watched("again", (WatchedStep("a", "map", first.read),))
print(len(files()))
publishing.publish()
print(len(files()))
time.sleep(60)
"""
    with burning(tmp_path, 0.5, after=drop) as process:
        assert process.stdout is not None
        assert [process.stdout.readline().strip() for _ in range(4)] == ["1", "0", "0", "1"]
        file = PublishedFile(tmp_path / f"{process.pid}.json", process.pid)
        assert file.read().datasets[0].name == "again"
        file.path.unlink()
        with contextlib.suppress(Idle):
            file.read()


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    file = tmp_path / f"{os.getpid()}.json"
    for content in (b"", b"{}", b"\xff", b"[1]"):
        file.write_bytes(content)
        with pytest.raises(ReportError, match="is no status of a process") as refused:
            PublishedFile(file, os.getpid()).read()
        assert not isinstance(refused.value, Gone)
    assert found(tmp_path) == [os.getpid()]  # the process runs, and may write it anew


def test_a_port_tells_the_same_but_no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--token", "secret"])
    clock = WorkClock()
    watched = Watched("mine", (WatchedStep("decode", "map", clock.read),), samples=lambda work: 3.0)
    with clock.timing(3):
        pass
    metrics = Metrics()
    with serve(metrics, 0) as server:
        port = PublishedPort("127.0.0.1", server.port)
        with pytest.raises(ReportError, match=f"127.0.0.1:{server.port} serves no status"):
            port.read()  # a scrape's answer
        metrics.show_status(publishing.document)
        told = port.read()
    (mine,) = (each for each in told.datasets if each.number == watched.number)
    assert (told.pid, told.command[1:], mine.moment.samples) == (os.getpid(), ["train.py"], 3.0)
    assert mine.moment.steps["decode"].calls == 3
    with pytest.raises(Gone, match="doesn't answer"):
        port.read()


@pytest.mark.parametrize(
    ("full", "said"),
    [(3.5, "saturated"), (0.5, "starved"), (2.0, "balanced")],
)
def test_the_last_buffer_tells_who_waits(full: float, said: str) -> None:
    later = MODEL | {"full": 3.5 + full, "looks": 8}
    assert verdict(MODEL, later, 10.0).startswith(said)
    assert verdict({}, MODEL | {"full": full}, 10.0).endswith(f"(its last buffer was {full / 4:.0%} full in 10 s)")
    assert [verdict(*models, 10.0) for models in ((MODEL, MODEL), (MODEL, {}), ({}, {}))] == ["", "", ""]


@pytest.mark.slow
@pytest.mark.parametrize(("takes_s", "makes_s", "said"), [(0.05, 0.0, "saturated"), (0.0, 0.05, "starved")])
def test_a_runtime_tells_how_full_its_last_buffer_is(takes_s: float, makes_s: float, said: str) -> None:
    tf = pytest.importorskip("tensorflow")
    import greenload as gl

    def make(x: Any) -> Any:
        time.sleep(makes_s)
        return x

    dataset = gl.watch(
        tf.data.Dataset.range(1000).map(lambda x: tf.numpy_function(make, [x], tf.int64)).batch(2).prefetch(4)
    )
    watch, before = BufferWatch(), {}
    for number, _ in zip(range(14), dataset, strict=False):
        time.sleep(takes_s)
        if number > 3:
            watch.look(dataset.watched.iterators)
            before = before or watch.to_dict()
    assert verdict(before, watch.to_dict(), 1.0).startswith(said)
    assert before["buffers"][0]["name"] == "Prefetch" and before["buffers"][0]["size"] == 4


@pytest.mark.slow
def test_a_dataset_that_is_watched_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tf = pytest.importorskip("tensorflow")
    import greenload as gl

    monkeypatch.setenv("GREENLOAD_STATUS", str(tmp_path))
    dataset = gl.watch(tf.data.Dataset.range(100).map(lambda x: x + 1))
    for _ in dataset:
        pass
    file = PublishedFile(tmp_path / f"{os.getpid()}.json", os.getpid())
    wait_for(file.path.exists)
    calls = {work.calls for each in file.read().datasets for work in each.moment.steps.values()}
    assert 100 in calls
    del dataset
