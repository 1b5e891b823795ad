"""Calibrating: the rates that explain what was seen, a short real run, and the command."""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenload.backends import registry
from greenload.backends.base import Availability
from greenload.backends.chain import Chain, run_plan
from greenload.backends.tables import TABLES
from greenload.cli import main
from greenload.errors import BackendUnavailable, UsageError
from greenload.planning import cost_table
from greenload.planning.choose import make_plan
from greenload.planning.cost_table import Costs, CostTerms
from greenload.planning.prices import Work, price, work_of_segment
from greenload.plans.pipeline import Pipeline
from greenload.profiling.calibration import calibrate as calibrating
from greenload.profiling.calibration.calibrate import ProbeCost, calibrate, fit_rates, measure_probes
from greenload.profiling.calibration.probes import SizedPipeline, of_pipeline
from greenload.profiling.calibration.standard_set import Material, standard
from greenload.profiling.calibration.summed import Summed
from greenload.sources import Arrays, ImageFolder
from greenload.stages import Batch, Decode, GaussianBlur, Normalize, RandomHorizontalFlip, Resize, ToDtype
from greenload.stages import primitives as p

SIDES = (16, 64, 224)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_rates_are_found_again() -> None:
    call, resize, flip = CostTerms(batch=1e-3), CostTerms(1e-5, 0.0, 2e-3, 8e-3), CostTerms(2e-6, 0.0, 1e-3)
    rows = []
    for side in SIDES:
        for out in SIDES:
            for batch in (8, 32):
                first = CostTerms(1, 0, side**2 / 1e6, out**2 / 1e6)
                second = CostTerms(1, 0, out**2 / 1e6, out**2 / 1e6)
                done = [
                    Work("pillow", "call", CostTerms(batch=1 / batch)),
                    Work("pillow", "Resize", first),
                    Work("pillow", "Flip", second),
                ]
                cost = sum(work.amounts.at(rates) for work, rates in zip(done, (call, resize, flip), strict=True))
                rows.append(ProbeCost(f"{side} {out} {batch}", tuple(done), cost, {"cpu:package-0": 3 * cost}))
                rows.append(
                    ProbeCost(f"{side} {out} {batch} -", tuple(done[:2]), cost - second.at(flip), {"cpu:package-0": 0})
                )
    table = fit_rates(rows)
    for what, rates in (("call", call), ("Resize", resize), ("Flip", flip)):
        found = table.get("pillow", what)
        assert found is not None
        for name in ("image", "batch", "entering", "leaving"):
            assert getattr(found.cpu_s, name) == pytest.approx(getattr(rates, name), rel=1e-3, abs=1e-9)
    assert table.source == cost_table.OWN


def test_rates_are_never_negative_and_heavy_rows_win() -> None:
    work = (Work("tf", "a", CostTerms(1)),)
    below = fit_rates([ProbeCost("x", work, -1e-5, {}), ProbeCost("y", work, -2e-5, {})])
    assert below.entries[0].cpu_s == CostTerms()
    rows = [ProbeCost("x", work, 1e-3, {}), ProbeCost("yours", work, 2e-3, {}, weight=10)]
    assert fit_rates(rows).entries[0].cpu_s.image == pytest.approx(2e-3, rel=0.05)


def test_joules_are_fitted_by_domain() -> None:
    work = (Work("tf", "a", CostTerms(1)),)
    table = fit_rates([ProbeCost("x", work, 1e-3, {"cpu:package-0": 0.02, "dram:package-0": 0.001})])
    found = price(work, Costs(table))
    assert found is not None
    assert found.energy_j == pytest.approx(0.021)


@pytest.fixture
def memory_is_kept() -> Iterator[None]:
    """The C library keeps memory that is freed. By itself it gives large blocks back to the system at one time and not
    at another, and fetching them anew doubles or triples what a step on float images costs."""
    m_trim_threshold, m_mmap_threshold = -1, -3
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        pytest.skip("needs mallopt of the GNU C library")
    for option, limit in ((m_mmap_threshold, 1 << 25), (m_trim_threshold, 1 << 30)):
        assert libc.mallopt(option, limit)
    yield
    libc.mallopt(m_trim_threshold, 1 << 26)  # what the C library chooses itself once it has freed blocks of 32 MiB


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.usefixtures("memory_is_kept")
def test_a_measured_table_prices_what_is_run() -> None:
    """Steps on float images, on every backend here, against plain runs of them timed on their own."""
    rows = measure_probes(threads=2, only=("float images on", "batching floats"))
    table = fit_rates(rows)
    images = np.random.default_rng(0).random((64, 224, 224, 3), np.float32)
    pipeline = Pipeline(Arrays(images), Normalize((0.5,), (0.2,)), RandomHorizontalFlip(1.0), Batch(32))
    for name in calibrating.usable_backends():
        if name == "tf":
            continue
        plan = make_plan(pipeline, name)
        expected = price(work_of_segment(plan.segments[0].steps, 1 / 32, {}), Costs(table))
        assert expected is not None
        records = SizedPipeline.of(pipeline).records()
        part = replace(records, images=records.images[:32], numbers=records.numbers[:32], names=records.names[:32])
        with Chain(plan, 32) as chain:
            chain.run(part)
            seen = []
            for _ in range(9):
                begin = time.process_time()
                for _ in range(4):
                    chain.run(part)
                seen.append((time.process_time() - begin) / 128)
        assert 0.5 < expected.cpu_s / np.median(seen) < 2, name
    tf = {e.what: e.cpu_s for e in table.entries if e.backend == "tf"}
    assert _alone_on_tf(images) / CostTerms(1, 0, 224**2 / 1e6).at(tf["Affine float32→float32"]) == pytest.approx(
        1, abs=1
    )


def _alone_on_tf(images: Any) -> float:
    """CPU seconds an image that the affine map takes in a plain tf.data pipeline."""
    import tensorflow as tf

    def cost(work: Any) -> float:
        samples = tf.data.Dataset.from_tensor_slices(images).repeat(4).map(work, num_parallel_calls=2)
        seen = []
        for _ in range(5):
            begin = time.process_time()
            for _ in samples.shard(256, 255):
                pass
            seen.append((time.process_time() - begin) / 256)
        return float(np.median(seen))

    return cost(lambda image: image * 5.0 - 2.5) - cost(tf.identity)


@pytest.mark.slow
def test_a_pipelines_own_steps_are_measured_on_every_backend_that_does_them(sample_folder: Path) -> None:
    stages = (Decode(), Resize((48, 64)), GaussianBlur(7), RandomHorizontalFlip(), ToDtype("float32"))
    pipeline = Pipeline(ImageFolder(sample_folder), *stages, Batch(16))
    rows = measure_probes(pipeline, threads=2, only=("yours",), rounds=2)
    seen = {(work.backend, work.what) for row in rows for work in row.works}
    steps = ("Decode JPEG", "Resize antialias uint8", "Flip uint8", "Affine uint8→float32")
    for backend in calibrating.usable_backends():
        assert {(backend, what) for what in steps[:3]} <= seen
    assert ("tf", "Blur uint8") in seen
    assert ("pillow", "Blur uint8") not in seen  # which Pillow doesn't support
    assert ("pillow", "Affine uint8→float32") in seen  # behind what it doesn't support, too
    assert all(row.cpu_s > 0 for row in rows if row.name.endswith(" 1"))


@pytest.mark.parametrize("names", [("tf",), ("tf", "native"), ("tf", "native", "pillow")])
def test_every_probe_has_work_whatever_backends_are_here(
    names: tuple[str, ...], sample_folder: Path, tmp_path: Path
) -> None:
    groups = list(standard(Material.of(ImageFolder(sample_folder), str(tmp_path)), names, 1))
    assert all(probe.works for group in groups for probe in group.probes)
    transferred = {group.name.split(" ")[2] for group in groups if group.name.startswith("hand over")}
    assert transferred == {"tf": set(), "native": {"sizes"}, "pillow": {"encoded", "pixels", "sizes"}}[names[-1]]


def test_every_primitive_of_the_library_has_a_probe(sample_folder: Path, tmp_path: Path) -> None:
    names = calibrating.usable_backends()
    groups = standard(Material.of(ImageFolder(sample_folder), str(tmp_path)), names, 1, thorough=True)
    seen = {(work.backend, work.what.split()[0]) for group in groups for probe in group.probes for work in probe.works}
    no_work_of_their_own = {p.Primitive, p.Call, p.Choice}
    for name in names:
        lacking = {row.__name__ for row in TABLES[name].rows if row not in no_work_of_their_own}
        assert not lacking - {what for backend, what in seen if backend == name}, name


def test_the_stage_that_shows_what_a_sum_costs_is_its_formula() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 20, 30, 3), np.uint8)
    laid = SizedPipeline.out(Arrays(images), (Summed(),), 3)
    params = {"choices": np.arange(3), "weights": np.full(4, 0.25)}
    for name in ("tf", "native"):
        if not registry.get(name).availability().usable:
            continue
        done = run_plan(laid.plan(name, 1), laid.records())
        assert np.array_equal(done, [Summed().reference(image, params) for image in images])


def test_a_run_begins_where_its_params_are_known() -> None:
    images = Arrays(np.zeros((8, 40, 40, 3), np.uint8))
    laid = SizedPipeline.of(Pipeline(images, GaussianBlur(3), Resize((20, 20)), ToDtype("float32"), Batch(4)))
    (group,) = of_pipeline(laid, ["pillow"], 1, 2.0)
    assert [probe.name for probe in group.probes] == ["yours on pillow from 2 to 2", "yours on pillow from 2 to 3"]
    assert group.probes[0].weight == 2.0


def test_what_can_not_be_calibrated_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="Pipeline or nothing"):
        calibrate("imagenet:train")  # type: ignore[arg-type]
    for threads in (0, True, 1.5):
        with pytest.raises(UsageError, match="threads must be a positive integer"):
            calibrate(threads=threads)  # type: ignore[arg-type]

    class Missing:
        def __init__(self, name: str) -> None:
            self.name = name

        def availability(self) -> Availability:
            return Availability(self.name, False, "it is not there", "pip install it")

    monkeypatch.setattr(registry, "get", Missing)
    with pytest.raises(BackendUnavailable, match="needs TensorFlow: it is not there; pip install it"):
        calibrate()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "nowhere"], "nowhere: "),
        (["--threads", "0"], "--threads"),
        (["--json", "nowhere/costs.json"], "its folder does not exist"),
        (["nobody:train"], "nobody"),
    ],
)
def test_the_command_fails_in_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", *arguments]) in (1, 2)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert says in err


def test_the_command_shows_and_writes_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [ProbeCost("x", (Work("tf", "Flip uint8", CostTerms(1, 0, 0.05, 0.05)),), 2e-5, {})]
    monkeypatch.setattr(calibrating, "measure_probes", lambda *_, **__: rows)
    file = tmp_path / "costs.json"
    assert main(["calibrate", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert "Flip uint8" in out
    assert "0.020" in out
    written = cost_table.CostTable.from_dict(json.loads(file.read_text()))
    kept = cost_table.recall_table(written.machine)
    assert kept == written
    assert kept is not None
    assert kept.source == cost_table.OWN
