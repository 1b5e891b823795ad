"""Damaged descriptions and caches: each is refused in one line or works; a damaged cache stops nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import pytest
from mutations import Mutation, faults, text_of

import greenload as gl
from greenload.errors import PipelineError, SourceError, UsageError
from greenload.loading import verify
from greenload.machine import processors
from greenload.planning import cost_table
from greenload.planning.choose import choose, make_plan, usable
from greenload.planning.sizes import estimate
from greenload.plans.steps import steps_of
from greenload.sources import TFDS, Files, ImageFolder
from greenload.sources.formats import record_index, tf_example, tfrecord
from greenload.system import file_input
from greenload.system.json_data import DataError

SEED = 13


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.jpg").write_bytes(b"no image: only its name is looked at")
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def pipelines(folder: Path) -> Iterator[gl.Pipeline]:
    files = ImageFolder(folder)
    yield gl.Pipeline(
        files,
        *(gl.Shuffle(block=16), gl.Decode(), gl.RandomResizedCrop(224), gl.RandomHorizontalFlip()),
        *(gl.ColorJitter(0.4, 0.4, 0.4, 0.1), gl.RandomRotation(15), gl.RandomAffine(10, (0.1, 0.1), (0.9, 1.1), 5)),
        *(gl.GaussianBlur(5), gl.ToDtype("float32", True), gl.Normalize((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))),
        *(gl.RandomErasing(0.25), gl.OneHot(10), gl.Batch(32)),
        seed=7,
    )
    listed = Files(list(files.paths), [0, 1], ["a", "b"])
    framed = (gl.Resize((64, 64)), gl.CenterCrop(32), gl.Pad((1, 2)), gl.RandomCrop(24, 2), gl.RandomVerticalFlip())
    yield gl.Pipeline(listed, gl.Cache(), gl.Decode(), *framed, gl.RandomGrayscale(), gl.Batch(4))


def use_pipeline(pipeline: gl.Pipeline) -> None:
    assert gl.Pipeline.from_dict(json.loads(json.dumps(pipeline.to_dict()))) == pipeline
    assert str(pipeline) and repr(pipeline)
    make_plan(pipeline, backend="tf", threads=2).describe()


@pytest.mark.slow
def test_a_pipelines_description_is_refused_or_works(folder: Path) -> None:
    for pipeline in pipelines(folder):
        cases = mutations.some(json.loads(json.dumps(pipeline.to_dict())), 350, SEED)
        read = faults(cases, lambda case: gl.Pipeline.from_dict(case.data), use_pipeline, (PipelineError, SourceError))
        assert read == []


@pytest.mark.slow
def test_sources_over_records_are_refused_or_work(tmp_path: Path) -> None:
    records = tmp_path / "a.tfrecord"
    records.write_bytes(tfrecord.framed([tf_example.serialize(b"x", 1)]))
    for source in (gl.TFRecords([str(records)]), gl.TFRecords(str(records), label=None)):
        data = gl.Pipeline(source, gl.Shuffle()).to_dict()
        cases = mutations.some(data, 150, SEED)
        assert faults(cases, lambda case: gl.Pipeline.from_dict(case.data), str, (PipelineError, SourceError)) == []


def small_table() -> cost_table.CostTable:
    found = cost_table.reference().to_dict()
    found |= {"source": cost_table.OWN, "machine": cost_table.facts(2), "entries": found["entries"][:2]}
    found["entries"][0]["energy_j"] = {"cpu": found["entries"][0]["cpu_s"]}
    return cost_table.CostTable.from_dict(found)


@pytest.mark.slow
def test_a_table_of_costs_is_refused_or_plans_by_it(folder: Path) -> None:
    pipeline = next(iter(pipelines(folder)))
    sizes = estimate(pipeline, steps_of(pipeline))

    def use(table: cost_table.CostTable) -> None:
        assert cost_table.CostTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table
        known = cost_table.Costs(table, cost_table.reference())
        assert table.label and known.scale >= 0
        for entry in table.entries:
            known.find(entry.backend, entry.what)

    def plan(table: cost_table.CostTable) -> None:
        use(table)
        known = cost_table.Costs(table, cost_table.reference())
        choose(pipeline, sizes, known, usable(known, False), threads=2, prefetch=2).describe()

    data = json.loads(json.dumps(small_table().to_dict()))
    cases = mutations.some(data, 300, SEED)
    assert faults(cases, lambda case: cost_table.CostTable.from_dict(case.data), use, (UsageError,)) == []
    assert faults(cases[:20], lambda case: cost_table.CostTable.from_dict(case.data), plan, (UsageError,)) == []


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_table_in_the_cache_stops_no_plan(folder: Path) -> None:
    pipeline, machine = next(iter(pipelines(folder))), cost_table.facts(processors())
    path = cost_table.remember_table(cost_table.CostTable.from_dict(small_table().to_dict() | {"machine": machine}))
    cases = mutations.some(json.loads(path.read_text()), 100, SEED)

    def read(case: Mutation) -> cost_table.CostTable | None:
        path.write_bytes(text_of(case))
        return cost_table.recall_table(machine)

    assert faults(cases, read, lambda found: found and found.label, ()) == []
    for text in mutations.TEXTS.values():
        path.write_bytes(text)
        assert cost_table.recall_table(machine) is None
    make_plan(pipeline).describe()
    assert cost_table.remember_table(small_table()).exists()


def test_a_damaged_table_is_told_of_and_then_the_reference_plans(folder: Path) -> None:
    path = cost_table.table_path(cost_table.facts(processors()))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"[" * 100_000)
    with pytest.warns(UserWarning, match="damaged and not used .*nested too deeply.*greenload calibrate"):
        assert "reference" in make_plan(next(iter(pipelines(folder)))).describe()


def test_a_damaged_memory_of_a_verification_is_refused() -> None:
    good = [[0, "is cut"], [3, "is no image"]]

    def read(text: bytes) -> list[tuple[int, str]]:
        return verify._bad_records(text, 12)

    def use(found: list[tuple[int, str]]) -> None:
        assert all(0 <= index < 12 and isinstance(why, str) for index, why in found)

    assert read(json.dumps(good).encode()) == [tuple(pair) for pair in good]
    assert faults(mutations.mutations(good), lambda case: read(text_of(case)), use, (DataError,)) == []
    for text in mutations.TEXTS.values():
        with pytest.raises(DataError):
            read(text)


@pytest.fixture
def index(tmp_path: Path) -> tuple[Path, dict[str, Any], Path]:
    """A file of records, what its index is valid for, and the index."""
    path = tmp_path / "a.tfrecord"
    path.write_bytes(tfrecord.framed([tf_example.serialize(b"x" * 10, 1), tf_example.serialize(b"y" * 20, 2)]))
    wanted = record_index.stamp(str(path), "plain", "image", "label")
    place = record_index.remember(str(path), wanted, record_index.build(str(path), "plain", "image", "label"))
    assert place is not None
    return path, wanted, place


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_head_of_an_index_is_passed_over(index: tuple[Path, dict[str, Any], Path]) -> None:
    path, wanted, place = index
    head, body = place.read_bytes().split(b"\n", 1)

    def read(text: bytes) -> record_index.RecordIndex | None:
        place.write_bytes(text + b"\n" + body)
        return record_index.recall(str(path), wanted)

    def use(found: record_index.RecordIndex | None) -> None:
        assert found is None or found.labels.tolist() == [1, 2]

    cases = mutations.some(json.loads(head), 150, SEED)
    assert faults(cases, lambda case: read(text_of(case)), use, ()) == []
    assert [read(text) for text in mutations.TEXTS.values()] == [None] * len(mutations.TEXTS)
    assert read(head) is not None


def test_a_stale_index_is_told_by_its_first_line_and_not_read_whole(
    index: tuple[Path, dict[str, Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, wanted, place = index
    assert record_index.recall(str(path), wanted) is not None
    whole = []
    read = file_input.read
    monkeypatch.setattr(file_input, "read", lambda name, limit: whole.append(Path(name)) or read(name, limit))
    for stale in (wanted | {"mtime_ns": wanted["mtime_ns"] + 1}, wanted | {"label": None}):
        assert record_index.recall(str(path), stale) is None
    assert place not in whole
    assert record_index.recall(str(path), wanted) is not None
    assert place in whole


@pytest.mark.parametrize("column", ["records", "sizes", "starts", "lengths"])
@pytest.mark.parametrize("value", [-(2**63), -2, 10**6, 2**62, 2**63 - 1])
def test_an_index_that_points_outside_its_file_is_passed_over(
    index: tuple[Path, dict[str, Any], Path], column: str, value: int
) -> None:
    path, wanted, _ = index
    found = record_index.recall(str(path), wanted)
    assert found is not None
    getattr(found, column)[1] = value
    record_index.remember(str(path), wanted, found)
    with pytest.warns(UserWarning, match="it points outside its file"):
        assert record_index.recall(str(path), wanted) is None


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A folder as tensorflow-datasets prepares it: one image, its label, and a feature more."""
    folder = tmp_path / "prepared"
    folder.mkdir()
    (folder / "digits-train.tfrecord-00000-of-00001").write_bytes(tfrecord.framed([tf_example.serialize(b"x", 1)]))
    kinds = {"image": "image_feature.Image", "label": "class_label_feature.ClassLabel", "box": "bbox_feature.BBox"}
    features = {name: {"pythonClassName": f"tensorflow_datasets.core.features.{kind}"} for name, kind in kinds.items()}
    split = {
        "name": "train",
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "shardLengths": ["1"],
        "numBytes": "60",
    }
    supervised = {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}}
    info = {"name": "digits", "fileFormat": "tfrecord", "splits": [split], "supervisedKeys": supervised}
    (folder / "features.json").write_text(json.dumps({"featuresDict": {"features": features}}))
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "label.labels.txt").write_text("zero\none\n")
    return folder


def use_source(source: TFDS) -> None:
    assert source.read(0) == b"x" and source.labels.tolist() in ([1], [0])
    assert source.fingerprint() and source.splits and str(source) and isinstance(source.classes, tuple)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_a_prepared_folders_descriptions_are_refused_or_work(prepared: Path, name: str) -> None:
    file = prepared / name
    whole = json.loads(file.read_text())
    use_source(TFDS(prepared))

    def read(text: bytes) -> TFDS:
        file.write_bytes(text)
        return TFDS(prepared, "train+train")

    def use(source: TFDS) -> None:
        assert len(source) >= 2 and source.read(0) == b"x" and source.fingerprint() and source.classes is not None

    cases = mutations.some(whole, 250, SEED)
    assert faults(cases, lambda case: read(text_of(case)), use, (SourceError,)) == []
    odd = [Mutation(what, text) for what, text in mutations.TEXTS.items()]
    assert faults(odd, lambda case: read(case.data), use, (SourceError,)) == []


def test_a_template_that_asks_for_gigabytes_is_refused(prepared: Path) -> None:
    info = json.loads((prepared / "dataset_info.json").read_text())
    info["splits"][0]["filepathTemplate"] = "{SPLIT:>9999999999}"
    (prepared / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(SourceError, match="can't be filled in"):
        _ = TFDS(prepared).labels


def test_class_names_that_are_no_text_are_refused(prepared: Path) -> None:
    (prepared / "label.labels.txt").write_bytes(b"zero\n\xff\n")
    with pytest.raises(SourceError, match=r"label\.labels\.txt: class names are UTF-8 text, but byte 5 is not"):
        _ = TFDS(prepared).classes


@pytest.mark.parametrize("path", ["a\0b.jpg", "a\ud800b.jpg"])
def test_what_can_be_no_path_is_refused_by_lists_and_tables(path: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="path") as caught:
        Files([path])
    assert str(caught.value).isprintable()
    (tmp_path / "a.csv").write_bytes(f"path,label\n{path},1\n".encode(errors="surrogatepass"))
    with pytest.raises(SourceError):
        Files.from_csv(tmp_path / "a.csv")


def test_damaged_parquet_is_refused_in_one_line(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"path": ["a.jpg", "b.jpg"], "label": [1, 2]}), file)
    whole, random = file.read_bytes(), np.random.default_rng(SEED)

    def read(case: Mutation) -> Files:
        file.write_bytes(case.data)
        return Files.from_parquet(file)

    cases = []
    for number in range(150):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 3):
            data[place] = random.integers(0, 256)
        cases.append(Mutation(f"damage {number}", bytes(data)))
    assert faults(cases, read, lambda source: source.labels, (SourceError,)) == []
