"""Open files, memory and threads that run out: named, with the remedy, and never taken for a bad record."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.backends.base import Records
from greenload.backends.chain import Chain
from greenload.errors import BackendUnavailable, MeterError, RecordError, SourceError
from greenload.loading.record_errors import MARK, REMEDY, record_error
from greenload.loading.verify import verify
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.sources import Files, TFRecords
from greenload.sources.base import Source
from greenload.sources.formats import tf_example, tfrecord
from greenload.stages import Batch, CenterCrop, Decode
from greenload.system import limits

resource = pytest.importorskip("resource")
FILES_OPEN = (
    r"this process has as many files open as it may \([\d,]+\): close others, such as sockets, or raise the limit"
)


@contextmanager
def no_more_files() -> Iterator[None]:
    """A process that has as many files open as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, len(os.listdir("/proc/self/fd")) + 64), hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for number in held:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    import encoders as e

    for i in range(24):
        (tmp_path / f"{i:02}.jpg").write_bytes(e.kept("420.jpg"))
    return sorted(tmp_path.glob("*.jpg"))


def packed(photos: list[Path], kind: str) -> TFRecords:
    import gzip

    data = tfrecord.framed([tf_example.serialize(path.read_bytes(), i) for i, path in enumerate(photos)])
    path = photos[0].parent / f"{kind}.tfrecord"
    path.write_bytes(gzip.compress(data) if kind == "gzip" else data)
    source = TFRecords(path)
    len(source)
    return source


def refused(source: Source) -> str:
    """What reading a record says where no more files can be opened."""
    with no_more_files(), pytest.raises(SourceError) as caught:
        source.read(3)
    assert not isinstance(caught.value, RecordError)
    assert source.read(3)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["files", "plain", "gzip"])
def test_a_good_record_that_cannot_be_opened_is_not_a_bad_one(photos: list[Path], kind: str) -> None:
    said = refused(Files(photos) if kind == "files" else packed(photos, kind))
    assert "can't be read now, for no fault of its own: this process has as many files open" in said


@pytest.mark.slow
def test_array_records_too(photos: list[Path]) -> None:
    pytest.importorskip("array_record")
    from greenload.loading.pack import pack

    pack(Files(photos), photos[0].parent / "packed", format="arrayrecord")
    source = gl.TFDS(photos[0].parent / "packed")
    len(source)
    assert "this process has as many files open" in refused(source)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EACCES, errno.EIO, errno.ELOOP, errno.EISDIR])
def test_what_is_wrong_with_a_file_counts_against_its_record(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr("greenload.system.file_input.read", failing(OSError(code, os.strerror(code))))
    with pytest.raises(RecordError, match=f"can't be read: {os.strerror(code)}"):
        Files(["a.jpg"]).read(0)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENFILE, ""), "this machine has as many files open as it may"),
        (OSError(errno.ENOMEM, ""), "this process gets no more memory"),
        (MemoryError(), "this process gets no more memory"),
        (OSError(errno.ENOTCONN, ""), "its file system can't be reached"),
        (OSError(errno.ETIMEDOUT, ""), "its file system can't be reached"),
    ],
)
def test_what_is_wrong_with_the_machine_does_not(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    monkeypatch.setattr("greenload.system.file_input.read", failing(error))
    with pytest.raises(SourceError, match=said) as caught:
        Files(["a.jpg"]).read(0)
    assert not isinstance(caught.value, RecordError)


def failing(error: Exception) -> Any:
    def fail(*arguments: Any, **named: Any) -> Any:
        raise error

    return fail


@pytest.mark.slow
@pytest.mark.parametrize("backend", [pytest.param("tf", marks=pytest.mark.long), "pillow", "dali-cpu"])
def test_a_stream_ends_with_the_limit_and_nothing_is_left_out_or_remembered(photos: list[Path], backend: str) -> None:
    pytest.importorskip("tensorflow")
    if backend == "dali-cpu":
        pytest.importorskip("nvidia.dali")
    source = Files(photos)
    plan = make_plan(gl.Pipeline(source, Decode(), CenterCrop(8), Batch(1)), backend, threads=1, prefetch=1)
    streams = [iter(gl.load(plan, epochs=1)), gl.iterate(plan)]
    for stream in streams:
        next(stream)
    verify(Files(photos[:1]), backend=backend)
    with no_more_files():
        for stream in streams:
            with pytest.raises(SourceError, match=FILES_OPEN) as caught:
                list(stream)
            assert not isinstance(caught.value, RecordError)
        for fails in (lambda: verify(source, backend=backend), lambda: gl.load(plan, epochs=1, on_error="skip")):
            with pytest.raises(SourceError, match=FILES_OPEN):
                fails()
    assert verify(source, backend=backend).bad == ()
    assert len(list(streams[0])) > 0  # it had not been asked, so it goes on


@pytest.mark.slow
def test_records_in_shards_that_cannot_be_read_now_are_not_called_bad(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorflow")
    gl.pack(Files(photos), tmp_path / "packed")
    source = gl.open_folder(tmp_path / "packed")
    stream = gl.load(gl.Pipeline(source, Decode(), CenterCrop(8), Batch(2)), "tf", epochs=1)
    out = limits.unreadable("shard", "this process has as many files open as it may")
    monkeypatch.setattr(type(source), "read_many", failing(out))
    monkeypatch.setattr(type(source), "read", failing(out))
    with pytest.raises(SourceError, match="as many files open as it may") as caught:
        list(stream)
    assert not isinstance(caught.value, RecordError)


def test_a_record_that_failed_but_is_good_is_not_called_bad(photos: list[Path]) -> None:
    pytest.importorskip("tensorflow")
    source = Files(photos)
    error = record_error(
        f"[{MARK}] [{source.name(2)}] [2] [{REMEDY}]", gl.make_plan(gl.Pipeline(source, gl.Decode()), "tf")
    )
    assert isinstance(error, SourceError)
    assert not isinstance(error, RecordError)
    assert str(error).startswith(f"{photos[2]}: couldn't be read or decoded, but can be now: open files or memory")


def test_what_a_backend_lacks_is_told_from_a_text_of_tensorflow() -> None:
    plan = gl.make_plan(gl.Pipeline(Files(["a.jpg"]), gl.Decode()), "tf")
    error = record_error("UnknownError: BackendUnavailable: no more threads: raise it\nTraceback …", plan)
    assert isinstance(error, BackendUnavailable)
    assert str(error) == "no more threads: raise it"


def test_pillow_says_that_no_thread_can_be_started_and_stays_usable(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("PIL")
    pipeline = gl.Pipeline(Files(photos), Decode(), CenterCrop(8), Batch(4))
    plan = make_plan(pipeline, "pillow", threads=3)
    data = [path.read_bytes() for path in photos[:4]]
    records = Records(data, DrawLayout.of(pipeline).prepare(0, 0, np.arange(4)), [str(path) for path in photos[:4]])
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def one_only(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    with Chain(plan, 4) as chain:
        monkeypatch.setattr(threading.Thread, "start", one_only)
        with pytest.raises(BackendUnavailable, match=r"no more threads can be started: this user may have .*ulimit -u"):
            chain.run(records)
        monkeypatch.undo()
        assert chain.run(records).shape == (4, 8, 8, 3)


def test_every_thread_that_cannot_be_started_is_said(monkeypatch: pytest.MonkeyPatch, photos: list[Path]) -> None:
    from greenload.energy.sampler import Sampler
    from greenload.profiling.tfdata.guard import Pulse, patiently

    monkeypatch.setattr(threading.Thread, "start", failing(RuntimeError("can't start new thread")))
    with pytest.raises(BackendUnavailable, match="no more threads"):
        limits.start(threading.Thread(target=print))
    with pytest.raises(BackendUnavailable, match="no more threads"):
        patiently(lambda: None, Pulse())
    with pytest.raises(MeterError, match="none can be started"):
        Sampler([]).start()
    pytest.importorskip("PIL")
    plan = make_plan(gl.Pipeline(Files(photos), Decode(), CenterCrop(8), Batch(4)), "pillow")
    with pytest.raises(BackendUnavailable, match="no more threads"):
        list(gl.iterate(plan))


REALLY = """
import os, resource, sys
import numpy as np
import greenload as gl
from greenload import errors
from greenload.backends import registry
from greenload.backends.chain import Chain
from greenload.backends.base import Records
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
pipeline = gl.Pipeline(gl.Files([{photo!r}] * 4), gl.Decode(), gl.CenterCrop(8), gl.Batch(4))
records = Records([open({photo!r}, "rb").read()] * 4, DrawLayout.of(pipeline).prepare(0, 0, np.arange(4)), ["a"] * 4)
plans = [make_plan(pipeline, backend, threads=2) for backend in ("pillow", "dali-cpu")]
for plan in plans:
    registry.get(plan.backend).availability()
import greenload.backends.pillow.decode, PIL.JpegImagePlugin
if os.getuid() == 0:
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
for plan in plans:
    try:
        Chain(plan, 4).run(records)
    except errors.BackendUnavailable as error:
        print(plan.backend, error)
"""


@pytest.mark.slow
def test_it_is_so_where_the_system_really_starts_no_threads(photos: list[Path]) -> None:
    pytest.importorskip("nvidia.dali")
    code = REALLY.format(photo=str(photos[0]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.splitlines()
    assert [line.split()[0] for line in said] == ["pillow", "dali-cpu"]
    assert all("no more threads can be started: this user may have 1 (ulimit -u)" in line for line in said)
