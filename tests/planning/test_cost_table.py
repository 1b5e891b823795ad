"""Tables of costs: kept, found again, damaged, scaled; what a plan's work is; sizes by headers."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import encoders as e
import numpy as np
import pytest

from greenload.backends.native import library
from greenload.backends.tables import TABLES
from greenload.energy.meters.model import VCPU_ACTIVE_W
from greenload.errors import RecordError, UsageError
from greenload.planning import cost_table
from greenload.planning.choose import make_plan
from greenload.planning.cost_table import Costs, CostTable, CostTerms, Entry, typical
from greenload.planning.prices import Work, price, work_of
from greenload.planning.sizes import ASSUMED, estimate
from greenload.plans.pipeline import Pipeline
from greenload.plans.steps import steps_of
from greenload.profiling.calibration import calibrate as calibrating
from greenload.profiling.calibration.calibrate import calibrate
from greenload.sources import Arrays, Files, ImageFolder
from greenload.specs import HWC, ImageSpec
from greenload.stages import (
    AugMix,
    AutoAugment,
    Batch,
    Cache,
    CenterCrop,
    Decode,
    GaussianBlur,
    MixUp,
    RandAugment,
    RandomCrop,
    RandomEqualize,
    RandomHorizontalFlip,
    RandomPerspective,
    RandomResizedCrop,
    Resize,
    ToDtype,
)
from greenload.stages import primitives as p

MACHINE = {"cpu_model": "a processor", "cpus": 2, "packages": {"tensorflow": "1.0"}}
PIXELS = Arrays(np.zeros((4, 30, 40, 3), np.uint8))


def table(*entries: Entry, source: str = cost_table.OWN) -> CostTable:
    return CostTable(source, "2020-02-02T10:00:00+00:00", MACHINE, entries, 12.5, "photographs")


FLIP = Entry("tf", "Flip uint8", CostTerms(1e-6, 0.0, 2e-3))
DECODE = Entry("tf", "Decode JPEG", CostTerms(entering=1e-2), {"cpu:package-0": CostTerms(entering=0.05)}, "by hand")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_table_survives_being_written() -> None:
    made = table(FLIP, DECODE)
    assert CostTable.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_a_cost_is_the_sum_over_four_amounts() -> None:
    assert CostTerms(1, 0.5, 2, 3).at(CostTerms(10, 100, 1000, 10_000)) == 10 + 50 + 2000 + 30_000
    assert CostTerms(1, 2, 3, 4).times(0.5) == CostTerms(0.5, 1, 1.5, 2)


DAMAGED: list[tuple[str, Any]] = [
    ("format", lambda d: d | {"format": "greenload.costs/0"}),
    ("it must be an object, not a list of 1", lambda d: [d]),
    ("source must be one of 'reference', 'this machine', not 'hearsay'", lambda d: d | {"source": "hearsay"}),
    ("it lacks 'entries'", lambda d: {k: v for k, v in d.items() if k != "entries"}),
    (r"entries\[0\] must be an object, not 7", lambda d: d | {"entries": [7]}),
    ("seconds must be a finite number", lambda d: d | {"seconds": "long"}),
    (r"entries\[0\] lacks 'what'", lambda d: d | {"entries": [{"cpu_s": {}}]}),
    (r"entries\[0\] lacks 'cpu_s'", lambda d: d | {"entries": [{"backend": "tf", "what": "x"}]}),
    ("rates by image", lambda d: d | {"entries": [{"backend": "tf", "what": "x", "cpu_s": {"pixels": 1}}]}),
    ("number from 0", lambda d: d | {"entries": [{"backend": "tf", "what": "x", "cpu_s": {"image": -1e-9}}]}),
    ("number from 0", lambda d: d | {"entries": [{"backend": "tf", "what": "x", "cpu_s": {"image": float("nan")}}]}),
    ("number from 0", lambda d: d | {"entries": [{"backend": "tf", "what": "x", "cpu_s": {"image": "1"}}]}),
    (
        "an integer of 401 digits",
        lambda d: d | {"entries": [{"backend": "tf", "what": "x", "cpu_s": {"image": 10**400}}]},
    ),
    ("the name of some work", lambda d: d | {"entries": [{"backend": "tf", "what": " ", "cpu_s": {}}]}),
]


@pytest.mark.parametrize(("says", "damage"), DAMAGED)
def test_a_damaged_table_is_refused(says: str, damage: Any) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        CostTable.from_dict(damage(table(FLIP).to_dict()))
    assert "\n" not in str(caught.value)


def test_a_machines_own_table_is_kept_and_goes_first() -> None:
    assert cost_table.recall_table(MACHINE) is None
    path = cost_table.remember_table(table(FLIP))
    assert path.name.startswith("costs-")
    assert cost_table.recall_table(MACHINE) == table(FLIP)
    assert list(path.parent.iterdir()) == [path]  # nothing half-written stays

    here = cost_table.facts(3)
    assert cost_table.in_use(3).table.source == cost_table.REFERENCE
    cost_table.remember_table(replace(table(FLIP), machine=here))
    assert cost_table.in_use(3).table.entries == (FLIP,)
    assert cost_table.in_use(4).table.source == cost_table.REFERENCE


def test_a_damaged_file_is_passed_over_with_a_warning_and_made_anew() -> None:
    path = cost_table.remember_table(table(FLIP))
    path.write_text('{"format": "greenload.costs/1"}')
    with pytest.warns(UserWarning, match=r"damaged and not used .*: run greenload calibrate"):
        assert cost_table.recall_table(MACHINE) is None
    cost_table.remember_table(table(FLIP))
    assert cost_table.recall_table(MACHINE) == table(FLIP)


def test_the_file_is_another_for_another_machine_version_or_format(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {
        cost_table.table_path(MACHINE),
        cost_table.table_path(MACHINE | {"cpu_model": "another"}),
        cost_table.table_path(MACHINE | {"cpus": 4}),
        cost_table.table_path(MACHINE | {"packages": {"tensorflow": "2.0"}}),
        cost_table.table_path(MACHINE | {"packages": {"tensorflow": "1.0", "pillow-simd": "1"}}),
    }
    assert len(paths) == 5
    assert cost_table.table_path(dict(reversed(MACHINE.items()))) in paths
    monkeypatch.setattr(cost_table, "FORMAT", "greenload.costs/2")
    assert cost_table.table_path(MACHINE) not in paths


def test_facts_hold_the_versions_of_what_does_the_work() -> None:
    found = cost_table.facts(2)
    assert found["cpus"] == 2
    assert found["cpu_model"]
    assert {"numpy", "tensorflow"} <= set(found["packages"])


def test_the_file_is_another_for_another_build_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    monkeypatch.setattr(library, "fingerprint", library.fingerprint.__wrapped__)  # as in another process
    paths = [cost_table.table_path(cost_table.facts(2))]
    for content in (b"one", b"other"):
        (tmp_path / "_kernel.native.so").write_bytes(content)
        paths += [cost_table.table_path(cost_table.facts(2)) for _ in range(2)]
    assert len(set(paths)) == 3
    assert paths[1] == paths[2] and paths[3] == paths[4]


def test_what_a_table_lacks_is_the_references_scaled_to_this_machine() -> None:
    slow = [replace(FLIP, cpu_s=FLIP.cpu_s.times(factor), what=name) for factor, name in ((3, "a"), (4, "b"), (9, "c"))]
    theirs = [replace(FLIP, what=name) for name in "abc"]
    gpu = Entry("dali", "call", CostTerms(batch=1e-3), {"gpu": CostTerms(batch=2.0)}, "derived")
    both = Costs(table(*slow), table(*theirs, DECODE, gpu, source=cost_table.REFERENCE))
    assert both.scale == pytest.approx(4)  # the median
    assert both.find("tf", "a").cpu_s == slow[0].cpu_s  # type: ignore[union-attr]
    found = both.find("tf", "Decode JPEG")
    assert found is not None
    assert found.cpu_s.entering == pytest.approx(4e-2)
    assert found.energy_j == {}  # joules of another machine's processor say nothing here
    assert both.find("dali", "call").energy_j == {"gpu": CostTerms(batch=2.0)}  # type: ignore[union-attr]
    assert both.find("tf", "Blur uint8") is None


def test_work_that_nobody_measured_costs_what_similar_work_does_and_says_so() -> None:
    known = Costs(table(Entry("tf", "Resize uint8", CostTerms(1)), Entry("tf", "Resize antialias uint8", CostTerms(2))))
    found = known.find("tf", "Resize antialias float32")
    assert found is not None
    assert found.cpu_s.image == 2
    assert "Resize antialias float32 on tf: as Resize antialias uint8" in found.origin
    assert known.find("pillow", "Resize uint8") is None


def test_the_shipped_table_is_whole() -> None:
    shipped = cost_table.reference()
    assert shipped.source == cost_table.REFERENCE
    assert "greenload calibrate" in shipped.label
    assert shipped.machine["cpu_model"]
    for backend in ("tf", "dali-cpu", "pillow", "native"):
        for what in ("DecodeCrop JPEG", "Resize antialias uint8", "Flip uint8", "Color uint8", "Affine uint8→float32"):
            entry = shipped.get(backend, what)
            assert entry is not None, (backend, what)
            assert 0 < typical(what).at(entry.cpu_s) < 0.05
    derived = [entry for entry in shipped.entries if entry.backend == "dali"]
    assert derived
    assert all("derived from whole-pipeline figures" in entry.note for entry in derived)


@pytest.mark.parametrize("name", [name for name, table in TABLES.items() if not table.traits.on_gpu])
def test_the_shipped_table_knows_every_primitive_of_a_backend_of_the_processor(name: str) -> None:
    known = {entry.what.split()[0] for entry in cost_table.reference().entries if entry.backend == name}
    no_work_of_their_own = {p.Primitive, p.Call, p.Choice}
    assert not {row.__name__ for row in TABLES[name].rows if row not in no_work_of_their_own} - known


@pytest.mark.parametrize("backend", ["auto", "tf", "native"])
def test_policies_and_mixes_are_priced_from_the_shipped_table(backend: str) -> None:
    stages = (RandomPerspective(), RandomEqualize(), RandAugment(), AugMix(), AutoAugment(), Batch(4))
    plan = make_plan(Pipeline(PIXELS, *stages, MixUp(num_classes=2)), backend)
    expected = price(work_of(plan.steps, 4, {}), Costs(cost_table.reference()))
    assert expected is not None and expected.cpu_s > 0
    assert not expected.unknown


def named(pipeline: Pipeline, backend: Any) -> dict[tuple[str, str], CostTerms]:
    plan = make_plan(pipeline, backend)
    batch = pipeline.batch.size if pipeline.batch else None
    found = work_of(plan.steps, batch, {"JPEG": 1.0})
    assert len({(work.backend, work.what) for work in found}) == len(found)
    return {(work.backend, work.what): work.amounts for work in found}


def test_the_work_of_a_plan_on_one_backend() -> None:
    pipeline = Pipeline(PIXELS, RandomHorizontalFlip(), ToDtype("float32"), Batch(4))
    pixels, moved = 1200e-6, 3600e-6
    assert named(pipeline, "tf") == {
        ("tf", "Batch"): CostTerms(1, 0.25, 4 * moved),
        ("tf", "Flip uint8"): CostTerms(1, 0, pixels, pixels),
        ("tf", "Affine uint8→float32"): CostTerms(1, 0, pixels, pixels),
    }
    assert named(pipeline, "native") == {  # an operation of tf.data's graph: nothing is called, or copied for it
        ("tf", "Batch"): CostTerms(1, 0.25, moved),
        ("native", "Flip uint8"): CostTerms(1, 0, pixels, pixels),
        ("native", "Affine uint8→float32"): CostTerms(1, 0, pixels, pixels),
    }
    assert named(pipeline, "dali-cpu") == {
        ("tf", "hand over pixels"): CostTerms(1, 0.25, moved, 4 * moved),
        ("dali-cpu", "call"): CostTerms(batch=0.25),
        ("dali-cpu", "take pixels"): CostTerms(1, 0, moved),
        ("dali-cpu", "FlipAffine uint8→float32"): CostTerms(1, 0, pixels, pixels),
    }


def test_the_work_of_a_mixed_plan_has_every_crossing(sample_folder: Path) -> None:
    source = ImageFolder(sample_folder)
    pipeline = Pipeline(source, Decode(), Resize((64, 64)), RandomHorizontalFlip(), Batch(8))
    found = named(pipeline, {"Decode": "tf", "Resize": "dali-cpu", "RandomHorizontalFlip": "tf"})
    assert list(found) == [
        ("tf", "Decode JPEG"),
        ("tf", "hand over sizes"),
        ("dali-cpu", "call"),
        ("dali-cpu", "take pixels"),
        ("dali-cpu", "Resize antialias uint8"),
        ("tf", "one by one"),
        ("tf", "Flip uint8"),
    ]
    assert found["tf", "hand over sizes"].leaving == 64 * 64 * 3 / 1e6
    encoded = named(pipeline, {"Decode": "dali-cpu", "Resize": "dali-cpu", "RandomHorizontalFlip": "dali-cpu"})
    assert ("dali-cpu", "take pixels") not in encoded
    for backend, way in (("native", "Batch"), ("dali-cpu", "hand over encoded")):
        found = named(pipeline, {"Decode": backend, "Resize": backend})
        assert next(iter(found)) == ("tf", way)
        assert ((backend, "call") in found) == (backend != "native")
    # Two backends in a row, and images of many sizes, are transferred from Python.
    for placed in ({"Decode": "native", "Resize": "native", "RandomHorizontalFlip": "pillow"}, {"Resize": "native"}):
        found = named(pipeline, placed)
        assert any(what.startswith("hand over") for _, what in found) and ("native", "call") in found
    assert encoded["tf", "hand over encoded"].entering == encoded["dali-cpu", "Decode JPEG"].entering


def test_filters_count_their_taps_and_batches_are_work_of_their_own() -> None:
    blurred = named(Pipeline(PIXELS, GaussianBlur(5), Batch(2)), "tf")
    assert blurred["tf", "Blur uint8"] == CostTerms(1, 0, 5 * 1200e-6, 1200e-6)
    behind = named(Pipeline(PIXELS, Batch(2), ToDtype("float32")), "tf")
    assert ("tf", "Affine uint8→float32 batched") in behind


def test_what_a_cache_keeps_costs_nothing() -> None:
    files = Files(["a.jpg"])
    found = named(Pipeline(files, Decode(), CenterCrop(8), Cache(), RandomHorizontalFlip(), Batch(2)), "tf")
    assert set(found) == {("tf", "Batch"), ("tf", "Flip uint8")}
    assert named(Pipeline(files, Decode(), Resize((8, 8)), Cache(), Batch(2)), "tf").keys() == {("tf", "Batch")}


def test_a_price_adds_up_and_is_in_joules_only_where_all_were_measured() -> None:
    joules = {"cpu:package-0": CostTerms(1.0), "dram:package-0": CostTerms(0.5)}
    known = Costs(table(Entry("tf", "a", CostTerms(1e-3), joules), Entry("tf", "b", CostTerms(2e-3))))
    one, other = Work("tf", "a", CostTerms(1)), Work("tf", "b", CostTerms(2))
    both = price([one, other], known)
    assert both is not None
    assert (both.cpu_s, both.energy_j) == (pytest.approx(5e-3), None)
    alone = price([one, one], known)
    assert alone is not None
    assert alone.energy_j == pytest.approx(3.0)
    assert price([one, Work("tf", "c", CostTerms(1))], known) is None


def test_joules_of_a_gpu_count_as_cpu_seconds_where_the_processors_are_not_measured() -> None:
    known = Costs(table(Entry("dali", "a", CostTerms(1e-3), {"gpu": CostTerms(VCPU_ACTIVE_W * 1e-3)}, "derived")))
    found = price([Work("dali", "a", CostTerms(1))], known)
    assert found is not None
    assert found.cpu_s == pytest.approx(2e-3)
    assert found.energy_j is None
    assert found.origins == ("dali: derived",)


def test_sizes_are_the_means_of_what_runs(sample_folder: Path) -> None:
    from greenload.plans.params import DrawLayout
    from greenload.sources import formats

    source = ImageFolder(sample_folder)
    pipeline = Pipeline(source, Decode(), RandomResizedCrop(64), Batch(8), seed=3)
    files = [source.read(i) for i in range(len(source))]
    heads = [formats.header(data) for data in files]
    height, width = (np.array([getattr(head, side) for head in heads]) for side in ("height", "width"))
    numbers = DrawLayout.of(pipeline).prepare(3, 0, np.arange(len(source)))
    windows = DrawLayout.of(pipeline).params(numbers, height, width, [1])[1]["window"]
    exact = estimate(pipeline, steps_of(pipeline), records=len(source))
    read, decode, resize, batch = exact.steps
    assert (read.size_in, decode.size_in) == (pytest.approx(np.mean([len(data) for data in files])),) * 2
    assert decode.size_out == resize.size_in == pytest.approx(np.mean(windows[:, 2] * windows[:, 3]))
    assert resize.size_out == batch.size_in == 64 * 64
    assert exact.kinds == {"JPEG": 1.0}

    few = estimate(pipeline, steps_of(pipeline))
    assert few.note == "sizes: means of 16 records"
    assert few.steps[1].size_out == pytest.approx(exact.steps[1].size_out, rel=0.5)
    assert few.steps[1].size_out != exact.steps[1].size_out
    whole = Pipeline(source, Decode(), Resize(50), CenterCrop(40), Batch(8))
    sized = estimate(whole, steps_of(whole), records=len(source)).steps
    assert sized[1].size_out == pytest.approx(np.mean(height * width))
    assert sized[2].size_out == pytest.approx(
        np.mean(50 * (50 * np.maximum(height, width) // np.minimum(height, width)))
    )
    assert sized[3].size_out == 40 * 40


class Counted:
    """A source of a million records, that counts what is read."""

    spec = ImageSpec((), "bytes", "encoded")
    labels = np.zeros(1, np.int64)

    def __init__(self, data: Any) -> None:
        self.data = data
        self.read_at: list[int] = []

    def __len__(self) -> int:
        return 1_000_000

    def name(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> Any:
        self.read_at.append(index)
        if isinstance(self.data, Exception):
            raise self.data
        return self.data

    def fingerprint(self) -> str:
        return ""

    def to_dict(self) -> dict[str, Any]:
        return {}


def test_few_records_are_read_of_many_and_a_source_that_fails_fails_no_plan(sample_folder: Path) -> None:
    source = Counted(ImageFolder(sample_folder).read(0))
    plan = make_plan(Pipeline(source, Decode(), Resize((8, 8)), Batch(2)), "dali-cpu")
    assert len(source.read_at) == 16
    assert source.read_at[-1] == 999_999
    assert "kB an image" in plan.describe()

    for data in (RuntimeError("gone"), b"no image", b"", None):
        plan = make_plan(Pipeline(Counted(data), Decode(), Resize((8, 8)), Batch(2)), "dali-cpu")
        assert plan.steps[1].size_out == 500 * 375
        assert ASSUMED in plan.describe()
        assert plan.crossings[0].bytes == 82_000


def test_every_extension_is_looked_at(sample_folder: Path, tmp_path: Path) -> None:
    jpeg = ImageFolder(sample_folder).read(0)
    gif = e.gif(e.pixels(5, 5, 1), e.palette(256))
    paths = [tmp_path / f"{i}.jpg" for i in range(40)]
    for path in paths:
        path.write_bytes(jpeg)
    rare = tmp_path / "rare.GIF"
    rare.write_bytes(gif)
    files = [*paths[:7], rare, *paths[7:]]
    pipeline = Pipeline(Files(files), Decode(), Resize((8, 8)), Batch(2))
    found = estimate(pipeline, steps_of(pipeline))
    assert found.kinds == {"JPEG": 1.0, "GIF": 0.0}
    assert found.steps[1].size_in == len(jpeg)


def test_pixels_need_no_reading() -> None:
    steps = steps_of(pipeline := Pipeline(PIXELS, Resize((15, 10)), Batch(2)))
    found = estimate(pipeline, steps)
    assert [step.size_out for step in found.steps] == [1200, 150, 150]
    assert found.note == ""
    assert PIXELS.spec == ImageSpec((30, 40, 3), "uint8", HWC)


def test_a_cache_folder_that_cant_be_written_is_told_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"can't be kept there .*XDG_CACHE_HOME"):
        calibrate()
    assert cost_table.recall_table(MACHINE) is None  # and no plan complains


def test_costs_that_cant_be_kept_leave_those_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    table = cost_table.CostTable(cost_table.OWN, "", MACHINE, ())
    place = cost_table.remember_table(table)
    before, limit = place.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))  # as on a full disk
    try:
        with pytest.raises(OSError, match=r"costs can't be kept there: File too large; choose another path"):
            cost_table.remember_table(table)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert place.read_bytes() == before and [one.name for one in place.parent.iterdir()] == [place.name]


@pytest.mark.slow
def test_a_pipelines_own_records_are_measured_where_they_can_be_read(tmp_path: Path, sample_folder: Path) -> None:
    photos = sorted(sample_folder.rglob("*.jpg"))[:3]
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(photos[0].read_bytes()[:3000])
    gif = tmp_path / "one.gif"
    tiny = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff"
    gif.write_bytes(tiny + b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;")
    pipeline = Pipeline(Files([*photos, cut, gif]), Decode(), Resize((20, 20)), Batch(64))
    groups = list(calibrating._of(pipeline, ("tf", "dali-cpu", "pillow"), tmp_path / "held", 1))
    begins = {group.name: group.probes[0] for group in groups}
    assert set(begins) == {"yours on tf", "yours on dali-cpu from 2", "yours on pillow from 1"}  # DALI reads no GIF
    call = next(work for work in begins["yours on pillow from 1"].works if work.what == "call")
    assert call.amounts.batch == 1 / 4  # as many as there are, without the one that is cut
    cropped = Pipeline(Files(photos), Decode(), RandomCrop(3000), Batch(4))
    with pytest.raises(RecordError, match=rf"{photos[0].name}.*needs images of at least 3000"):
        list(calibrating._of(cropped, ("tf",), tmp_path / "small", 1))
