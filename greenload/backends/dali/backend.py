"""The DALI backends: ``"dali-cpu"``, and ``"dali"`` on a GPU. Neither imports TensorFlow."""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from greenload.backends.base import Availability, BackendTable
from greenload.backends.dali.decoder import DaliDecoder
from greenload.backends.dali.runner import INSTALL, DaliRunner, brief
from greenload.backends.dali.table import CPU_TABLE, GPU_TABLE
from greenload.backends.interface import Replaying
from greenload.backends.readers import Readers
from greenload.errors import BackendUnavailable
from greenload.plans.plan import Plan, Segment
from greenload.system import cache_folder, json_data, limits
from greenload.system.frameworks import fn

# A driver that hangs must not hang its caller; the first start on a machine of eight GPUs takes about 10 s.
_PROBE_S = 20.0
_TABLES = {table.name: table for table in (CPU_TABLE, GPU_TABLE)}


@dataclass(frozen=True)
class DaliBackend:
    """One of DALI's two backends, as ``backends.interface.Backend`` wants it."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in _TABLES:
            raise BackendUnavailable(f"DALI's backends are dali-cpu and dali, not {self.name!r}")

    @property
    def table(self) -> BackendTable:
        """What it does."""
        return _TABLES[self.name]

    def availability(self) -> Availability:
        """Whether DALI is installed and, for ``"dali"``, runs a graph on a GPU. Asked once, and never hangs."""
        return _probe(self.name, self.table.traits.on_gpu)

    def presence(self) -> Availability:
        """The same. An installation that was loaded on the CPU once isn't loaded again to know that it can be."""
        return self.availability() if self.table.traits.on_gpu else _loaded_before(self.name)

    def runner(self, plan: Plan, segment: Segment, batch_size: int, readers: Readers) -> DaliRunner:
        """A segment as one DALI graph.

        Raises:
            BackendUnavailable: DALI can't run here.
        """
        seen = self.availability()
        if not seen.usable:
            raise BackendUnavailable(f"backend {self.name!r} can't run here: {seen.detail}; {seen.remedy}")
        return DaliRunner(plan, segment, batch_size=batch_size, threads=plan.threads, readers=readers)

    def graph_segment(self, plan: Plan, segment: Segment, readers: Readers, counter: str = "") -> None:
        """``None``: batches leave TensorFlow's graph for DALI."""

    def own_clocks(self, segment: Segment, counter: str = "") -> None:
        """``None``: it has no clocks of its own."""
        return None

    def decoder(self) -> DaliDecoder:
        """A decoder with a first graph; it is on the CPU."""
        return DaliDecoder()

    def replays(self) -> Replaying:
        """Replays by graphs of single steps."""
        from greenload.backends.dali import replay

        return replay

    def refusal(self, data: bytes) -> str | None:
        """``None``: it gives no reason of its own."""
        return None


@functools.cache
def _loaded_before(name: str) -> Availability:
    """What an earlier process found by loading DALI, which takes 0.5 s and 70 MB; else what this one finds."""
    installed = _installed()
    if not installed or "nvidia.dali" in sys.modules:
        return _probe(name, False)
    path = cache_folder.locate("dali.json")
    seen = cache_folder.recall(path, lambda data: _known(data, installed), "what is known of DALI", "it is made anew")
    if seen is not None:
        return Availability(name, True, seen)
    found = _probe(name, False)
    if found.usable:
        cache_folder.remember(
            path, json.dumps({"installed": installed, "found": found.detail}), "what is known of DALI"
        )
    return found


def _known(data: bytes, installed: str) -> str | None:
    """What was found of an installation of DALI; ``None`` if that was another one."""
    record = json_data.parse(data)
    found = record.field("found").text()
    return found if record.field("installed").text() == installed else None


def _installed() -> str:
    """What tells one installation of DALI from another: Python, the library's file and its time; empty without one."""
    try:
        spec = importlib.util.find_spec("nvidia.dali")
        if spec is None or spec.origin is None:
            return ""
        library = Path(spec.origin).with_name("libdali.so")
        return f"{sys.version}; {library}; {library.stat().st_mtime_ns}"
    except (ImportError, ValueError, OSError):
        return ""


@functools.cache
def _probe(name: str, gpu: bool) -> Availability:
    try:
        import nvidia.dali as dali
    except ImportError as error:
        return Availability(name, False, f"DALI is not installed ({error})", INSTALL)
    version = f"DALI {dali.__version__} for CUDA {dali.__cuda_version__ // 1000}"
    if not gpu:
        return Availability(name, True, version)
    why = _no_driver()
    if why:
        return Availability(name, False, why, "install NVIDIA's driver; in a container, run it with --gpus all")
    answers: list[str] = []
    prober = threading.Thread(target=lambda: answers.append(_run_on_gpu()), daemon=True)
    try:
        limits.start(prober)
    except BackendUnavailable as error:
        return Availability(name, False, "no thread can be started", str(error))
    prober.join(_PROBE_S)
    if not answers:
        return Availability(name, False, f"the GPU gave no answer within {_PROBE_S:.0f} s", "see dmesg for Xid errors")
    if answers[0]:
        return Availability(name, False, f"{version} fails on the GPU: {answers[0]}", "update NVIDIA's driver")
    return Availability(name, True, version)


def _no_driver() -> str:
    """Why CUDA's driver can't be loaded; empty if it can."""
    import ctypes

    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1 is not found)"
    count = ctypes.c_int()
    if (status := driver.cuInit(0)) or (status := driver.cuDeviceGetCount(ctypes.byref(count))):
        return f"the NVIDIA driver finds no usable GPU (CUDA error {status})"
    return "" if count.value else "the NVIDIA driver finds no GPU"


def _run_on_gpu() -> str:
    """Why the smallest graph doesn't run on the GPU; empty if it does."""
    from nvidia.dali import Pipeline

    try:
        graph = Pipeline(batch_size=1, num_threads=1, device_id=0)
        with graph:
            graph.set_outputs(fn.random.coin_flip().gpu())
        graph.build()
        graph.run()
    except RuntimeError as error:
        return brief(error)
    return ""
