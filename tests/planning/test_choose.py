"""What ``backend="auto"`` chooses, by made-up tables whose sums are done by hand."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenload.backends import registry
from greenload.backends.base import Availability, TableRow
from greenload.backends.tables import TABLES
from greenload.planning import choose as planning
from greenload.planning import cost_table
from greenload.planning.choose import choose, make_plan
from greenload.planning.cost_table import Costs, CostTable, CostTerms, Entry
from greenload.planning.prices import work_of
from greenload.planning.sizes import SizedSteps, estimate
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import MIXED, Plan
from greenload.plans.steps import steps_of
from greenload.sources import Arrays, Files, ImageFolder
from greenload.specs import ImageSpec
from greenload.stages import (
    Apply,
    Batch,
    Cache,
    ColorJitter,
    Decode,
    Echo,
    GaussianBlur,
    Pad,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
)
from greenload.stages import primitives as pixels

ALL = ("tf", "dali-cpu", "pillow")
PIXELS = Arrays(np.zeros((64, 32, 32, 3), np.uint8))
FILES = Files(["a.jpg", "b.jpg"])
PHOTOS = (Decode(), RandomResizedCrop(32), RandomHorizontalFlip(), Batch(8))
MS = 1e-3


def a_table(rates: dict[str, float | tuple[float, float]], source: str = cost_table.OWN) -> Costs:
    """Milliseconds an image, and joules where they were measured, by ``"backend: work"``."""
    entries = []
    for key, value in rates.items():
        backend, what = key.split(": ")
        seconds, joules = value if isinstance(value, tuple) else (value, None)
        energy = {} if joules is None else {"cpu:package-0": CostTerms(joules)}
        entries.append(Entry(backend, what, CostTerms(seconds * MS), energy))
    return Costs(CostTable(source, "2020-02-02", {"cpu_model": "made up"}, tuple(entries)))


def chosen(pipeline: Pipeline, known: Costs, able: tuple[str, ...] = ALL, sizes: SizedSteps | None = None) -> Plan:
    found = sizes or estimate(pipeline, steps_of(pipeline))
    return choose(pipeline, found, known, able, threads=2, prefetch=2)


def on(plan: Plan) -> list[str]:
    return [step.backend for step in plan.steps if step.kind == "pixels"]


AROUND: dict[str, float | tuple[float, float]] = {
    "tf: Batch": 0.0,
    "tf: hand over encoded": 0.1,
    "tf: hand over pixels": 0.1,
    "tf: hand over sizes": 0.5,
    "tf: one by one": 0.1,
    "dali-cpu: call": 0.0,
    "dali-cpu: take pixels": 0.1,
    "dali-cpu: give sizes": 0.0,
    "pillow: call": 0.0,
    "pillow: take pixels": 0.05,
    "pillow: give sizes": 0.0,
}


def photos(**rates: float) -> Costs:
    """tf decodes in 1 ms, resizes in 1, flips in 0.01; the others as said."""
    known = dict(AROUND)
    for backend in ALL:
        short = backend.split("-")[0]
        known[f"{backend}: DecodeCrop JPEG"] = rates.get(f"{short}_decode", 1.0)
        known[f"{backend}: Resize antialias uint8"] = rates.get(f"{short}_resize", 1.0)
        known[f"{backend}: Flip uint8"] = rates.get(f"{short}_flip", 0.01)
    return a_table(known)


def test_the_cheapest_is_chosen_and_the_sum_is_the_hand_made_one() -> None:
    plan = chosen(Pipeline(FILES, *PHOTOS), photos(pillow_resize=0.2))
    assert on(plan) == ["pillow"] * 3
    assert plan.backend == "pillow"
    expected = plan.expected
    assert expected is not None
    assert expected.unit == "cpu_s"
    assert expected.cost == pytest.approx((0.1 + 1.0 + 0.2 + 0.01) * MS)
    others = dict(expected.others)
    assert others["tf"] == pytest.approx(2.01 * MS)
    assert others["dali-cpu"] == pytest.approx(2.11 * MS)
    runner_up, cost = expected.others[0]
    # Decoding in tf hands over images of different sizes; any other mixed plan takes pixels once more.
    assert runner_up == "dali-cpu (Decode + crop) → pillow (RandomResizedCrop: resize … RandomHorizontalFlip)"
    assert cost == pytest.approx((0.1 + 1.0 + 0.05 + 0.2 + 0.01) * MS)
    text = plan.describe()
    assert "expected: 1.31 ms of CPU an image (costs of this machine, 2020-02-02)" in text
    assert f"runner-up: {runner_up}, 1.36 ms of CPU" in text
    assert "instead: tf, 2.01 ms of CPU" in text


def test_several_backends_where_each_is_best_at_something() -> None:
    plan = chosen(Pipeline(FILES, *PHOTOS), photos(dali_decode=0.5, pillow_resize=0.2, tf_flip=0.3, dali_flip=0.3))
    assert plan.backend == MIXED
    assert on(plan) == ["dali-cpu", "pillow", "pillow"]
    assert plan.expected is not None
    assert plan.expected.cost == pytest.approx((0.1 + 0.5 + 0.05 + 0.2 + 0.01) * MS)


@dataclass(frozen=True)
class _Halved(pixels.Primitive):
    """A primitive that no table of costs has."""


@dataclass(frozen=True)
class Halve(Stage):
    """A stage that no table of costs has."""

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        return spec

    def primitives(self, spec: ImageSpec) -> tuple[pixels.Primitive, ...]:
        return (_Halved(),)


def test_a_primitive_that_no_table_has_is_priced_as_its_nearest_relative_and_the_plan_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ALL:
        row = TableRow(_Halved, None, ("uint8", "float32"))
        monkeypatch.setitem(TABLES, name, replace(TABLES[name], rows={**TABLES[name].rows, _Halved: row}))  # type: ignore[misc]
    colours = {"tf": 0.4, "dali-cpu": 0.3, "pillow": 0.1}
    known = photos(pillow_resize=0.2)
    entries = [Entry(name, "Color uint8", CostTerms(cost * MS)) for name, cost in colours.items()]
    known = Costs(replace(known.table, entries=(*known.table.entries, *entries)))
    plan = chosen(Pipeline(FILES, *PHOTOS[:-1], Halve(), Batch(8)), known)
    assert on(plan) == ["pillow"] * 4
    assert plan.expected is not None
    assert plan.expected.cost == pytest.approx((0.1 + 1.0 + 0.2 + 0.01 + 0.1) * MS)
    said = "Halve isn't in the cost table: priced as Color, by bytes"
    assert said in plan.describe().splitlines()
    assert plan.to_dict()["expected"]["costs"].endswith(f"; {said}")
    # Four times the bytes of what is known: four times the cost.
    floats = Pipeline(PIXELS, ToDtype("float32", scale=True), Halve(), Batch(8))
    affine = Entry("tf", "Affine uint8→float32", CostTerms(0.2 * MS))
    plan = chosen(floats, Costs(replace(known.table, entries=(*known.table.entries, affine))), ("tf",))
    assert plan.expected is not None
    assert plan.expected.cost == pytest.approx((0.2 + 4 * 0.4) * MS)
    assert said in plan.describe()
    # What isn't pixels has no relative: a backend without any rate for decoding doesn't decode.
    lacking = tuple(entry for entry in known.table.entries if (entry.backend, entry.what[:6]) != ("pillow", "Decode"))
    assert on(chosen(Pipeline(FILES, *PHOTOS), Costs(replace(known.table, entries=lacking))))[0] != "pillow"
    shipped = chosen(Pipeline(FILES, *PHOTOS[:-1], Halve(), Batch(8)), Costs(cost_table.reference()))
    assert shipped.expected is not None
    assert len(shipped.expected.others) >= 2
    assert said in shipped.describe()


@pytest.mark.parametrize(
    ("decode", "wanted"), [(0.8501, "tf"), (0.82, "pillow"), (2.0, "tf"), (0.9, "tf"), (0.84, "pillow")]
)
def test_another_backend_must_save_three_percent(decode: float, wanted: str) -> None:
    # tf: 2.01; pillow: 0.1 + decode + 1 + 0.01, so 3 % are saved from 0.8397 down
    known = photos(pillow_decode=decode if decode != 0.84 else 0.8396)
    assert chosen(Pipeline(FILES, *PHOTOS), known, ("tf", "pillow")).backend == wanted


@pytest.mark.parametrize(("take", "wanted"), [(0.05, MIXED), (0.23, MIXED), (0.25, "pillow"), (0.4, "pillow")])
def test_several_must_save_five_percent_of_the_best_alone(take: float, wanted: str) -> None:
    # pillow alone: 0.1 + 1 + 0.2 + 0.01 = 1.31; mixed: 1.01 + take, and 95 % of 1.31 are 1.2445
    known = photos(pillow_resize=0.2, dali_decode=0.7, dali_resize=3.0, dali_flip=1.0)
    entries = tuple(
        Entry(e.backend, e.what, CostTerms(take * MS)) if (e.backend, e.what) == ("pillow", "take pixels") else e
        for e in known.table.entries
    )
    known = Costs(CostTable(cost_table.OWN, "2020-02-02", {}, entries))
    assert chosen(Pipeline(FILES, *PHOTOS), known).backend == wanted


def test_ties_go_to_the_simple_plan() -> None:
    free = {key: 0.0 for key in AROUND}
    steps = ("DecodeCrop JPEG", "Resize antialias uint8", "Flip uint8")
    same = a_table(free | {f"{backend}: {what}": 0.5 for backend in ALL for what in steps})
    assert chosen(Pipeline(FILES, *PHOTOS), same).backend == "tf"
    assert chosen(Pipeline(FILES, *PHOTOS), same, ("dali-cpu", "pillow")).backend == "dali-cpu"


def test_joules_decide_only_where_a_meter_measured_them_all() -> None:
    pipeline = Pipeline(PIXELS, RandomHorizontalFlip(), Batch(8))
    around = {key: (0.0, 0.0) for key in AROUND}
    rates: dict[str, Any] = around | {"tf: Flip uint8": (1.0, 9e-3), "pillow: Flip uint8": (3.0, 2e-3)}
    measured = chosen(pipeline, a_table(rates), ("tf", "pillow"))
    assert measured.backend == "pillow"
    assert measured.expected is not None
    assert (measured.expected.unit, measured.expected.cost) == ("energy_j", 2e-3)
    assert "expected: 2 mJ an image" in measured.describe()
    partly = chosen(pipeline, a_table(rates | {"pillow: call": 0.0}), ("tf", "pillow"))
    assert partly.backend == "tf"
    assert partly.expected is not None
    assert (partly.expected.unit, partly.expected.cost) == ("cpu_s", pytest.approx(1 * MS))


def test_what_can_not_run_here_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    known = photos(pillow_resize=0.01)
    assert chosen(Pipeline(FILES, *PHOTOS), known, ("tf",)).backend == "tf"
    assert chosen(Pipeline(FILES, *PHOTOS), known, ("tf", "dali-cpu")).backend == "tf"

    class Missing:
        def __init__(self, name: str) -> None:
            self.name = name

        def presence(self) -> Availability:
            return Availability(self.name, self.name == "tf", "", "")

    monkeypatch.setattr(registry, "get", Missing)
    assert planning.usable(cost_table.Costs(cost_table.reference()), gpu=True) == ("tf",)
    plan = make_plan(Pipeline(FILES, *PHOTOS))
    assert plan.backend == "tf"
    assert plan.expected is not None
    assert plan.expected.others == ()


def test_what_is_only_asked_for_or_slower_than_priced_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        def __init__(self, name: str) -> None:
            self.name = name

        def presence(self) -> Availability:
            remedy = "install Pillow-SIMD" if self.name == "pillow" else ""
            return Availability(self.name, True, "there", remedy)

    monkeypatch.setattr(registry, "get", Found)
    shipped = cost_table.reference()
    own = replace(shipped, source=cost_table.OWN)
    assert planning.usable(cost_table.Costs(shipped)) == ("tf", "dali-cpu", "native")
    assert planning.usable(cost_table.Costs(shipped), gpu=True) == ("tf", "dali-cpu", "dali", "native")
    assert planning.usable(cost_table.Costs(own, shipped)) == ("tf", "dali-cpu", "pillow", "native")


def test_a_backend_that_does_not_read_a_kind_of_file_does_not_decode_it() -> None:
    pipeline = Pipeline(FILES, *PHOTOS)
    sizes = estimate(pipeline, steps_of(pipeline))
    known = photos(dali_decode=0.1, pillow_resize=0.01)
    assert on(chosen(pipeline, known, sizes=sizes))[0] == "dali-cpu"
    gif = SizedSteps(sizes.steps, {"JPEG": 1.0, "GIF": 0.0}, "")
    assert on(chosen(pipeline, known, ("tf", "dali-cpu"), gif)) == ["tf"] * 3
    palette = SizedSteps(sizes.steps, {"palette BMP": 1.0}, "")
    both = Costs(CostTable(cost_table.OWN, "", {}, known.table.entries))
    assert on(chosen(pipeline, both, ("tf", "dali-cpu"), palette)) == ["dali-cpu"] * 3  # tf doesn't read it


def test_a_cache_stays_in_tf_data_and_what_it_keeps_is_not_counted() -> None:
    known = photos(pillow_resize=0.01, pillow_decode=0.01, pillow_flip=0.001)
    before = Pipeline(FILES, Decode(), Cache(), RandomResizedCrop(32), Batch(8))
    entries = (*known.table.entries, *(Entry(b, "Crop uint8", CostTerms(0.1 * MS)) for b in ALL))
    plan = chosen(before, Costs(CostTable(cost_table.OWN, "", {}, entries)))
    assert on(plan) == ["tf", "pillow", "pillow"]
    assert plan.expected is not None
    assert plan.expected.cost == pytest.approx((0.5 + 0.05 + 0.1 + 0.01) * MS)
    behind = Pipeline(FILES, Decode(), Resize((32, 32)), Cache(), Batch(8))
    assert on(chosen(behind, known)) == ["tf", "tf"]


@pytest.mark.parametrize("size", [1, 2, 7, 256])
def test_the_choice_does_not_depend_on_the_batch_size(size: int) -> None:
    # A call of dali-cpu costs so much that by itself it would pay from batches of 8 on.
    table = {name: value for name, value in AROUND.items() if name != "dali-cpu: call"}
    entries = a_table(table | {f"{name}: Flip uint8": 1.0 if name != "dali-cpu" else 0.1 for name in ALL}).table.entries
    known = Costs(
        CostTable(
            cost_table.OWN,
            "2020-02-02",
            {},
            (*entries, Entry("dali-cpu", "call", CostTerms(batch=6 * MS))),
        )
    )
    plan = chosen(Pipeline(PIXELS, RandomHorizontalFlip(), Batch(size)), known)
    assert on(plan) == ["dali-cpu"]
    assert plan.expected is not None
    assert plan.expected.cost == pytest.approx((0.1 + 6 / 32 + 0.1 + 0.1) * MS)


@pytest.mark.parametrize("antialias", [True, False])
def test_by_the_shipped_costs_photographs_are_the_kernels(antialias: bool) -> None:
    pipeline = Pipeline(FILES, Decode(), RandomResizedCrop(224, antialias=antialias), RandomHorizontalFlip(), Batch(32))
    plan = chosen(pipeline, Costs(cost_table.reference()), (*ALL, "native"))
    assert on(plan) == ["native"] * 3
    assert plan.expected is not None
    assert "native: its ratio to the other backends, measured on another machine" in plan.expected.costs


def test_without_batches_there_is_only_tf() -> None:
    assert chosen(Pipeline(FILES, *PHOTOS[:-1]), photos(pillow_decode=0.01)).backend == "tf"


def test_a_users_function_stays_on_tf_and_the_rest_goes_where_it_is_cheap() -> None:
    pipeline = Pipeline(FILES, Decode(), Resize((32, 32)), Apply(abs), Batch(8))
    entries = [(b, w, ms) for b in ALL for w, ms in (("Decode JPEG", 1.0), ("Resize antialias uint8", 1.0))]
    table = a_table(AROUND | {f"{b}: {w}": 0.3 if b == "pillow" else ms for b, w, ms in entries})
    assert on(chosen(pipeline, table)) == ["pillow", "pillow", "tf"]


def test_nothing_is_chosen_where_nothing_is_known() -> None:
    plan = chosen(Pipeline(FILES, *PHOTOS), a_table({"tf: Batch": 1.0}))
    assert plan.backend == "tf"
    assert plan.expected is None
    assert make_plan(Pipeline(PIXELS, Batch(2))).expected is None  # no work on pixels


def test_a_gpu_comes_last_and_only_with_figures() -> None:
    known = photos()
    gpu = [
        Entry("dali", what, CostTerms(0.1 * MS), {"gpu": CostTerms(1e-4)}, "derived")
        for what in ("DecodeCrop JPEG", "Resize antialias uint8", "Flip uint8")
    ]
    gpu.append(Entry("dali", "call", CostTerms(batch=0.8 * MS), {"gpu": CostTerms(batch=8e-4)}, "derived"))
    with_gpu = Costs(CostTable(cost_table.REFERENCE, "", {}, (*known.table.entries, *gpu)))
    plan = chosen(Pipeline(FILES, *PHOTOS), with_gpu, ("tf", "dali"))
    assert on(plan) == ["dali"] * 3
    assert plan.expected is not None
    assert "dali: derived" in plan.expected.costs
    # 0.1 handed over, three works of 0.1 ms and of 0.1 mJ, at 2.76 W, and of 0.8 of a call a 32nd
    assert plan.expected.cost == pytest.approx((0.1 + 3.25 * (0.1 + 0.1 / 2.76)) * MS)
    pixels = Pipeline(PIXELS, RandomHorizontalFlip(), Batch(8))  # which no figure says what it takes to hand to a GPU
    assert chosen(pixels, with_gpu, ("tf", "dali")).backend == "tf"


def test_auto_says_by_which_table_and_what_it_assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(planning, "usable", lambda known, gpu=False: ("tf", "pillow"))
    pipeline = Pipeline(FILES, *PHOTOS)
    text = make_plan(pipeline).describe()
    assert "reference costs of" in text
    assert "greenload calibrate" in text
    assert "sizes: assumed to be 500×375 JPEG of 82 kB" in text
    own = CostTable(
        cost_table.OWN, "2021-01-01", cost_table.facts(planning.processors()), photos(tf_resize=0.01).table.entries
    )
    cost_table.remember_table(own)
    plan = make_plan(pipeline)
    assert plan.backend == "tf"
    assert plan.expected is not None
    assert plan.expected.costs == "costs of this machine, 2021-01-01"


@pytest.mark.alone
@pytest.mark.slow
def test_a_long_pipeline_is_planned_quickly(sample_folder: Path) -> None:
    stages = (
        Shuffle(), Decode(), RandomResizedCrop(64), RandomHorizontalFlip(), ColorJitter(0.1), RandomCrop(60),
        Pad(2), RandomAffine(10), RandomRotation(10), GaussianBlur(3), RandomErasing(), ToDtype("float32"), Batch(8),
    )  # fmt: skip
    pipeline = Pipeline(ImageFolder(sample_folder), *stages)
    make_plan(pipeline)
    begin = time.process_time()
    plan = make_plan(pipeline)
    assert time.process_time() - begin < 0.4
    assert len(on(plan)) >= 10


@pytest.mark.parametrize("backend", ["tf", "native", "pillow"])
def test_echoes_share_the_work_before_them(backend: str) -> None:
    behind = (Resize((32, 32)), RandomHorizontalFlip(), Batch(8))

    def works(*stages: Stage) -> dict[str, CostTerms]:
        plan = make_plan(Pipeline(FILES, Decode(), *stages, *behind), backend)
        return {work.what: work.amounts for work in work_of(plan.steps, 8, {"JPEG": 1.0})}

    plain, echoed = works(), works(Echo(4))
    assert echoed["Decode JPEG"] == plain["Decode JPEG"].times(0.25)
    others = [what for what in plain if what.startswith(("Resize", "Flip"))]
    assert len(others) == 2 and all(echoed[what] == plain[what] for what in others)
    assert ("take pixels" in echoed) == (backend != "tf"), "each echo is taken anew from what was decoded"
    whole, shared = (expected_cost(backend, *stages) for stages in ((), (Echo(4),)))
    assert shared < whole


def expected_cost(backend: str, *stages: Stage) -> float:
    """What ``"auto"`` expects of a pipeline on one backend, where each work costs what it does in the shipped table."""
    behind = (Resize((32, 32)), RandomHorizontalFlip(), Batch(8))
    pipeline = Pipeline(FILES, Decode(), *stages, *behind)
    plan = choose(
        pipeline, estimate(pipeline, steps_of(pipeline)), cost_table.in_use(2), [backend], threads=1, prefetch=1
    )
    assert plan.expected is not None
    return plan.expected.cost
