"""The gate that calls pass, the threads of a pipeline, and what is closed when: in one process. How whole processes end
is in tests/bench/test_exits.py."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.backends.base import Records
from greenload.backends.chain import Chain
from greenload.plans.params import DrawLayout
from greenload.system import shutdown
from greenload.system.shutdown import Gate
from greenload.system.workers import Workers


def until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not there():
        assert time.monotonic() < end
        time.sleep(0.001)


def running(name: str) -> int:
    return sum(thread.name == f"greenload-{name}" for thread in threading.enumerate())


def in_thread(work: Callable[[], Any], **how: Any) -> threading.Thread:
    thread = threading.Thread(target=work, **how)
    thread.start()
    return thread


# the gate


def test_a_gate_waits_for_those_inside_and_lets_nobody_in_any_more() -> None:
    gate = Gate()
    assert gate.enter() and gate.enter()
    shut: list[bool] = []
    closing = in_thread(lambda: shut.append(gate.shut()))
    until(lambda: not gate.open)
    assert not gate.enter() and gate.refused == 1
    gate.leave()
    time.sleep(0.02)
    assert not shut, "one is inside"
    gate.leave()
    closing.join(20)
    assert shut == [True]
    assert gate.shut()


def test_a_gate_waits_no_longer_than_it_may() -> None:
    gate = Gate()
    in_thread(gate.enter).join(20)
    assert not gate.shut(timeout=0.01)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """The process's gate, shut."""
    gate, closed = Gate(), threading.Event()
    gate.shut()
    closed.set()
    monkeypatch.setattr(shutdown, "_gate", gate)
    monkeypatch.setattr(shutdown, "_closed", closed)
    return gate


def test_who_is_refused_hears_it_as_fits_the_thread(ended: Gate) -> None:
    with pytest.raises(gl.GreenloadError, match="the interpreter is ending"), shutdown.request:
        raise AssertionError("let in")
    with pytest.raises(StopIteration, match="the interpreter is ending"), shutdown.call_from_tensorflow:
        raise AssertionError("let in")
    seen: list[str] = []

    def ask() -> None:
        try:
            with shutdown.request:
                seen.append("let in")
        except SystemExit:  # Python prints nothing of it in a thread
            seen.append("ended")

    in_thread(ask, daemon=True).join(20)
    assert seen == ["ended"]
    assert ended.refused == 3


def test_a_daemon_thread_that_was_inside_ends_when_it_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, closed = Gate(), threading.Event()
    monkeypatch.setattr(shutdown, "_gate", gate)
    monkeypatch.setattr(shutdown, "_closed", closed)
    inside, go_on, seen = threading.Event(), threading.Event(), []

    def ask() -> None:
        with contextlib.suppress(SystemExit):
            with shutdown.request:
                inside.set()
                go_on.wait(20)
            seen.append("worked on")

    threads = [in_thread(ask, daemon=daemon) for daemon in (True, False)]
    inside.wait(20)
    gate.shut(timeout=0)
    go_on.set()
    threads[1].join(20)
    assert threads[0].is_alive(), "what it drops is still being closed"
    closed.set()
    threads[0].join(20)
    assert seen == ["worked on"], "only the thread that the end waits for"


def test_iteration_is_refused_once_the_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL")
    batches = gl.iterate(arrays(), backend="pillow", epochs=9)
    next(batches)
    with monkeypatch.context() as patch:
        gate = Gate()
        gate.shut()
        patch.setattr(shutdown, "_gate", gate)
        with pytest.raises(gl.UsageError, match="the interpreter is ending"):
            next(batches)
    assert len(next(batches)[1]) == 4


# threads


def test_workers_work_in_order_and_give_errors_back() -> None:
    workers = Workers(1, "test-order")
    order: list[int] = []
    futures = [workers.submit(order.append, i) for i in range(50)]
    bad = workers.submit(int, "x")
    assert [future.result(20) for future in futures] == [None] * 50
    assert order == list(range(50))
    with pytest.raises(ValueError, match="invalid literal"):
        bad.result(20)
    assert workers.submit(sum, [1, 2]).result(20) == 3
    assert running("test-order") == 1
    workers.close()
    workers.close()
    assert not running("test-order")
    with pytest.raises(gl.UsageError, match="closed"):
        workers.submit(sum, [1])


def test_closing_waits_for_what_has_begun_and_cancels_the_rest() -> None:
    workers = Workers(1, "test-cancel")
    begun, go_on = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        assert go_on.wait(20)
        return "done"

    first, second = workers.submit(work), workers.submit(work)
    begun.wait(20)
    closing = in_thread(lambda: workers.close(cancel=True))
    until(second.cancelled)
    assert closing.is_alive()
    go_on.set()
    closing.join(20)
    assert first.result(0) == "done"
    with pytest.raises(CancelledError):
        second.result(0)


def test_workers_that_nobody_refers_to_end_also_from_within() -> None:
    workers = Workers(2, "test-dropped")
    held = [workers]
    workers.submit(held.clear).result(20)
    del workers  # a frame of the thread was the last to refer to it
    gc.collect()
    until(lambda: not running("test-dropped"))


def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


def test_where_no_thread_can_be_started_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL")
    no_threads(monkeypatch)
    with pytest.raises(gl.BackendUnavailable, match=r"no more threads can be started: .*ulimit -u"):
        next(gl.iterate(arrays(), backend="pillow"))


def test_behind_the_main_threads_end_the_caller_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL")
    expected = [labels.tolist() for _, labels in gl.iterate(arrays(), backend="pillow")]
    no_threads(monkeypatch)
    monkeypatch.setattr(shutdown, "is_ending", lambda: True)
    assert [labels.tolist() for _, labels in gl.iterate(arrays(), backend="pillow")] == expected


def test_fewer_threads_than_wanted_are_no_silent_substitute_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(4, "test-few")
    assert workers.submit(sum, [1, 2]).result(20) == 3
    no_threads(monkeypatch)
    with pytest.raises(gl.BackendUnavailable, match="no more threads can be started"):
        workers.submit(sum, [1])
    monkeypatch.setattr(shutdown, "is_ending", lambda: True)
    assert [workers.submit(sum, [i, 1]).result(20) for i in range(9)] == list(range(1, 10))
    assert running("test-few") == 1
    workers.close()


# chains


def arrays() -> gl.Pipeline:
    images = np.random.default_rng(0).integers(0, 256, (22, 200, 300, 3), np.uint8)
    return gl.Pipeline(gl.Arrays(images, np.arange(22)), gl.Shuffle(), gl.RandomResizedCrop(16), gl.Batch(4))


def records_of(pipeline: gl.Pipeline) -> Records:
    source: Any = pipeline.source
    numbers = DrawLayout.of(pipeline).prepare(0, 0, np.arange(4))
    return Records(source.images[:4], numbers, [source.name(i) for i in range(4)])


@pytest.mark.parametrize(("backend", "module"), [("pillow", "PIL"), ("dali-cpu", "nvidia.dali")])
def test_a_chain_closes_when_no_thread_is_inside(monkeypatch: pytest.MonkeyPatch, backend: str, module: str) -> None:
    pytest.importorskip(module)
    plan = gl.make_plan(arrays(), backend)
    chain = Chain(plan, 4)
    runner = chain._runners[0]
    run, close, happened = runner.run, runner.close, []
    inside, go_on = threading.Event(), threading.Event()

    def slowly(records: Records) -> Any:
        inside.set()
        assert go_on.wait(20)
        done = run(records)
        happened.append("left")
        return done

    monkeypatch.setattr(runner, "run", slowly)
    monkeypatch.setattr(runner, "close", lambda: (happened.append("closed"), close()))
    records = records_of(plan.pipeline)
    working = in_thread(lambda: chain.run(records))
    assert inside.wait(20)
    closing = in_thread(chain.close)
    until(lambda: not chain._gate.open)
    with pytest.raises(gl.UsageError, match="is closed"):
        chain.run(records)
    assert not happened
    go_on.set()
    for thread in (working, closing):
        thread.join(20)
    assert happened == ["left", "closed"]


def test_a_chain_that_is_collected_in_a_worker_waits_for_nobody() -> None:
    pytest.importorskip("PIL")
    chain = Chain(gl.make_plan(arrays(), "pillow"), 4)
    assert chain._gate.enter(), "a batch is under way"
    workers = Workers(1, "test-collect")
    workers.submit(chain.close).result(20)
    with pytest.raises(gl.UsageError, match="is closed"):
        chain.run(records_of(arrays()))
    workers.close()


def test_a_gate_is_not_held_up_by_what_an_interrupt_left_in_it() -> None:
    gate = Gate()
    assert gate.enter()  # and the interrupt came before the way out
    assert gate.shut(timeout=5)


# the end


class Closing:
    def __init__(self, name: str, order: list[str], error: Exception | None = None) -> None:
        self.name, self.order, self.error = name, order, error

    def close(self) -> None:
        self.order.append(self.name)
        if self.error:
            raise self.error


def test_the_end_closes_what_is_left_the_last_first_whatever_one_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "_gate", Gate())
    monkeypatch.setattr(shutdown, "_closed", threading.Event())
    monkeypatch.setattr(shutdown, "_left", weakref.WeakValueDictionary())
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    order: list[str] = []
    values = [Closing("first", order), Closing("bad", order, RuntimeError("the device failed")), Closing("last", order)]
    for value in values:
        shutdown.close_at_end(value)
    dropped = Closing("dropped", order)
    shutdown.close_at_end(dropped)
    del dropped
    before = signal.getsignal(signal.SIGINT)
    shutdown._end()
    assert order == ["last", "bad", "first"]
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(gl.UsageError, match="the interpreter is ending"), shutdown.request:
        raise AssertionError("let in")
    shutdown._end()  # harmless
