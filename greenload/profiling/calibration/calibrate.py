"""Measure what work costs on this machine: probes in settled windows, and the rates that explain them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.backends import registry
from greenload.backends.tables import TABLES, in_tf_data
from greenload.energy.attribution.observation import counted_ns, read_quantity
from greenload.energy.meters.discover import discover
from greenload.energy.sampler import Sampler
from greenload.errors import BackendUnavailable, RecordError, SourceError, UsageError
from greenload.loading.verify import verify
from greenload.machine import processors
from greenload.planning import cost_table
from greenload.planning.cost_table import CostTable, CostTerms, Entry
from greenload.planning.prices import Work
from greenload.planning.sizes import spread_indices
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.plans.steps import TF_DATA
from greenload.profiling.calibration.probes import ProbeGroup, RunnerRun, SizedPipeline, of_pipeline
from greenload.profiling.calibration.standard_set import Material, standard
from greenload.profiling.windows import Progress, Runnable, Windows, closing
from greenload.public import public
from greenload.sources import Files, Source, formats, open_folder, read_many
from greenload.sources.samples import make_samples
from greenload.system.scratch import ScratchFolder

PROBE_ROUNDS = 3
"""Rounds of windows; a probe's figure is the median over them."""
WINDOW_S, LONG_WINDOW_S = 0.04, 0.1
"""Wall seconds that a window aims at; for a table to be shipped."""
_PHOTOS, _YOURS = 64, 48  # images: generated, or of the user's; of a user's pipeline
_OWN_WEIGHT = 4.0  # of a user's own steps beside the standard ones, which they must outweigh where both name one work
_ON_CPU = tuple(name for name, table in TABLES.items() if not table.traits.on_gpu)
_LEAST_S = 5e-6  # errors below this many seconds an image don't count as relative ones


@dataclass(frozen=True)
class ProbeCost:
    """What one probe showed: its work, and what that cost an image."""

    name: str
    works: tuple[Work, ...]
    cpu_s: float
    energy_j: Mapping[str, float]
    """By domain, net of the idle machine; measured ones."""
    weight: float = 1.0


@public
def calibrate(
    pipeline: Pipeline | None = None,
    *,
    data: str | Path | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> CostTable:
    """Measure what each kind of work costs here, on every usable backend of the CPU, and keep it for ``"auto"``.

    A standard set of operations runs on a few sizes of images in memory, in settled windows: single steps and short
    runs of them, and transfers of batches from tf.data to other backends and back. Rates that are never negative are
    fitted to what was seen. With a pipeline also its own steps are measured, with their exact parameters and on its own
    records, and count for more than the standard ones. Takes one to two minutes on two cores, and some seconds more for
    a pipeline. The table is kept in the user's cache folder, for this processor and these versions; from then on
    ``make_plan`` goes by it. Figures for a GPU stay the reference's.

    Args:
        pipeline: also measure this one's steps.
        data: a folder of images to measure on, or whatever ``open_folder`` takes; generated photographs if not given.
        threads: threads that work; all processors of this process if not given.
        progress: called with the share done and what runs now.

    Returns:
        The table, as it was stored.

    Raises:
        BackendUnavailable: no backend can run here.
        SourceError: the data can't be opened, or none of it read.
        RecordError: an image is too small for one of the pipeline's stages; names it.
        UsageError: an argument is out of range, samples can't be made, or the cache folder can't be written.

    Example:
        >>> gl.calibrate(train)
        >>> print(gl.make_plan(train))      # by this machine's costs now
    """
    if pipeline is not None and not isinstance(pipeline, Pipeline):
        raise UsageError(f"calibrate takes a Pipeline or nothing, not {type(pipeline).__name__}: build a Pipeline")
    threads = scalars.positive(UsageError, "threads", processors() if threads is None else threads)
    cost_table.prepared(cost_table.facts(processors()))  # before minutes of work, not after
    begin = time.perf_counter()
    rows = measure_probes(pipeline, data=data, threads=threads, progress=progress)
    samples = f"{data}" if data else "generated photographs"
    table = fit_rates(rows, samples=samples, seconds=round(time.perf_counter() - begin, 1))
    cost_table.remember_table(table)
    return table


def usable_backends() -> tuple[str, ...]:
    """The backends of the CPU that can run here, tf first.

    Raises:
        BackendUnavailable: tf can't: it reads and batches for all.
    """
    names = []
    for name in sorted(_ON_CPU, key=in_tf_data, reverse=True):
        availability = registry.get(name).availability()
        if availability.usable:
            names.append(name)
        elif in_tf_data(name):
            raise BackendUnavailable(f"calibrate needs TensorFlow: {availability.detail}; {availability.remedy}")
    return tuple(names)


def measure_probes(
    pipeline: Pipeline | None = None,
    *,
    data: str | Path | None = None,
    threads: int,
    thorough: bool = False,
    only: Sequence[str] = (),
    rounds: int = PROBE_ROUNDS,
    progress: Progress | None = None,
) -> list[ProbeCost]:
    """Run the probes, and say what each cost an image.

    Args:
        pipeline: also measure this one's steps.
        data: as in ``calibrate``.
        threads: threads that work.
        thorough: rare operations too, and longer windows, for a table to be shipped.
        only: words, one of which a group's name must contain; all groups if none are given.
        rounds: rounds of windows.
        progress: as in ``calibrate``.
    """
    told = progress or (lambda share, text: None)
    told(0.0, "starting")
    names = usable_backends()
    with ScratchFolder() as folder:
        told(0.0, "making photos" if data is None else "reading images")
        source = _generated(folder) if data is None else _held(open_folder(data), Path(folder) / "data", _PHOTOS)[0]
        groups = list(standard(Material.of(source, folder), names, threads, thorough))
        if pipeline is not None:
            groups += _of(pipeline, names, Path(folder) / "yours", threads)
        groups = [group for group in groups if not only or any(word in group.name for word in only)]
        meters, _ = discover()
        with Sampler(meters) as sampler:
            window_s = LONG_WINDOW_S if thorough else WINDOW_S
            return Calibration(sampler, rounds, window_s, told).measure(groups)


class Calibration(Windows):
    """Runs probes in windows, those of a group close together.

    Args:
        sampler: running; reads the meters.
        rounds: rounds of windows.
        window_s: wall seconds that each aims at.
        progress: told what runs.
    """

    def __init__(self, sampler: Sampler, rounds: int, window_s: float, progress: Progress) -> None:
        super().__init__(sampler, rounds, 0, progress, window_s)
        self._measured = [name for name, channel in sampler.channels.items() if channel.provenance == "measured"]

    def measure(self, groups: Sequence[ProbeGroup]) -> list[ProbeCost]:
        """A row a probe."""
        self._idle()
        idle_w = {}
        for name in self._measured:
            watts = [
                joules / counted_ns(w, name) * 1e9 for w in self.seen if (joules := read_quantity(w, name)) is not None
            ]
            if watts:  # without the idle power, joules would not be the work's own
                idle_w[name] = statistics.mean(watts)
        rows: list[ProbeCost] = []
        total = sum(len(group.probes) + 1 for group in groups)
        for group in groups:
            self._tell(group.name)
            rows += self._group(group, idle_w)
            self._done += (len(group.probes) + 1) / total
        return rows

    def _group(self, group: ProbeGroup, idle_w: Mapping[str, float]) -> Iterator[ProbeCost]:
        makes = {probe.name: probe.make for probe in group.probes}
        if group.without is not None:
            makes[""] = group.without
        runs: dict[str, Runnable] = {}
        with closing(runs):
            for name, make in makes.items():
                runs[name] = make()
            sizes = {name: self._filling(run) for name, run in runs.items()}
            seen: dict[str, dict[str, list[float]]] = {name: {} for name in runs}
            for k in range(self._rounds):
                for name in self._random.sample(list(runs), len(runs)):
                    self._window(runs[name], sizes[name], name or group.name, "with", k, 0)
                    window = self.seen[-1]
                    seen[name].setdefault("", []).append(window.cpu_s / window.samples)
                    for domain, watts in idle_w.items():
                        if (joules := read_quantity(window, domain)) is not None:
                            net = joules - watts * counted_ns(window, domain) / 1e9
                            seen[name].setdefault(domain, []).append(net / window.samples)
        medians = {name: {what: statistics.median(v) for what, v in values.items()} for name, values in seen.items()}
        for probe in group.probes:
            values = medians[probe.name]
            if probe.without:
                values = {what: value - medians[""][what] for what, value in values.items() if what in medians[""]}
            joules_of = {what: value for what, value in values.items() if what}
            yield ProbeCost(probe.name, probe.works, values[""], joules_of, probe.weight)

    def _filling(self, run: Runnable) -> int:
        run.run(1)
        if not isinstance(run, RunnerRun):
            return self._window_samples(run, self.window_s)
        begin = time.perf_counter()
        passed = run.run(1)
        return max(1, round(passed * self.window_s / (time.perf_counter() - begin)))

    def _window(self, run: Runnable, samples: int, step: str, kind: str, k: int, build: int) -> None:
        if not isinstance(run, RunnerRun):
            super()._window(run, samples, step, kind, k, build)
            return
        start = self._sampler.mark()  # a runner leaves nothing running behind: no settling, which takes half the time
        passed = run.run(samples)
        self._note(step, kind, k, build, passed, start)


def fit_rates(
    rows: Sequence[ProbeCost], *, source: str = cost_table.OWN, samples: str = "", seconds: float = 0.0
) -> CostTable:
    """The rates, none of them negative, whose costs come nearest to what probes showed, each error relative to it.

    Args:
        rows: of ``measure``; of several runs of it, their medians.
        source: of the table.
        samples: what was measured on.
        seconds: how long it took.
    """
    domains = sorted({domain for row in rows for domain in row.energy_j})
    cpu_s = _rates(rows, [row.cpu_s for row in rows])
    energy = {}
    for domain in domains:
        told = [row for row in rows if domain in row.energy_j]
        energy[domain] = _rates(told, [row.energy_j[domain] for row in told])
    entries = tuple(
        Entry(
            backend,
            what,
            rates,
            {domain: rates_of[backend, what] for domain, rates_of in energy.items() if (backend, what) in rates_of},
        )
        for (backend, what), rates in cpu_s.items()
    )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return CostTable(source, created, cost_table.facts(processors()), entries, seconds, samples)


def _rates(rows: Sequence[ProbeCost], values: Sequence[float]) -> dict[tuple[str, str], CostTerms]:
    from scipy.optimize import nnls

    keys = list(dict.fromkeys((work.backend, work.what) for row in rows for work in row.works))
    table = np.zeros((len(rows), len(keys), 4))
    for i, row in enumerate(rows):
        for work in row.works:
            table[i, keys.index((work.backend, work.what))] += astuple(work.amounts)
    for j in range(len(keys)):
        _drop_twins(table[:, j])
    weights = np.array([row.weight for row in rows]) / np.maximum(values, _LEAST_S)
    solution, _ = nnls(table.reshape(len(rows), -1) * weights[:, None], np.array(values) * weights, maxiter=20_000)
    rates = [CostTerms(*(float(f"{rate:.4g}") for rate in part)) for part in solution.reshape(-1, 4)]
    return dict(zip(keys, rates, strict=True))


def _drop_twins(columns: NDArray[np.float64]) -> None:
    """Leave one of two amounts that always go together, ``[rows, 4]``, as what enters and leaves a flip."""
    used = columns[columns.any(axis=1)]
    for later in (3, 1, 0):
        for other in (2, 3):
            a, b = used[:, later], used[:, other]
            if later != other and a.any() and b.any() and columns[:, other].any() and _proportional(a, b):
                columns[:, later] = 0.0
                break


def _proportional(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool(np.isclose(a @ b, np.sqrt((a @ a) * (b @ b)), rtol=1e-6))


def _generated(folder: str) -> Source:
    from greenload.sources import ImageFolder

    make_samples(Path(folder) / "photos", images=_PHOTOS)
    return ImageFolder(Path(folder) / "photos")


def _held(source: Source, folder: Path, count: int) -> tuple[Source, list[str]]:
    """Some of a source's good records as files of their own, which nothing else reads meanwhile; and their names in it.

    Raises:
        SourceError: none can be read.
    """
    folder.mkdir()
    chosen = spread_indices(source, count)
    files, names, kinds = [], [], set()
    images: list[Any] = read_many(source, chosen)
    for number, data in zip(chosen, images, strict=True):
        try:
            kinds.add(formats.header(data).kind)
        except formats.FormatError:
            continue
        files.append(folder / f"{number:06d}")
        files[-1].write_bytes(data)
        names.append(source.name(number))
    reads = next((name for name in _ON_CPU if kinds <= set(TABLES[name].kinds)), TF_DATA)
    bad = {error.path for error in verify(Files(files), remember=False, backend=reads).bad} if files else set()
    good = [(file, name) for file, name in zip(files, names, strict=True) if str(file) not in bad]
    if not good:
        raise SourceError(f"{source}: none of the {len(chosen)} records that were looked at decodes: check them")
    return Files([file for file, _ in good]), [name for _, name in good]


def _of(pipeline: Pipeline, names: Sequence[str], folder: Path, threads: int) -> Iterator[ProbeGroup]:
    """A pipeline's own steps, over some of its own records in memory."""
    source = pipeline.source
    if source.spec.encoded:
        source, records = _held(source, folder, _YOURS)
    else:
        from greenload.sources import Arrays

        chosen = spread_indices(source, 8 * _YOURS)
        records = [source.name(i) for i in chosen]
        source = Arrays(np.stack([np.asarray(source.read(i)) for i in chosen]))
    kept = Pipeline(source, *pipeline.stages, seed=pipeline.seed)
    images: list[Any] = [source.read(i) for i in range(len(source))]
    if source.spec.encoded:
        heads = [formats.header(data) for data in images]
        sides = [(head.height, head.width) for head in heads]
    else:
        sides = [np.shape(image)[:2] for image in images]
    small = DrawLayout.of(kept).first_too_small(*np.array(sides, np.int64).T)
    if small is not None:
        raise RecordError(records[small[0]], small[1])
    return of_pipeline(SizedPipeline.of(kept), names, threads, _OWN_WEIGHT)
