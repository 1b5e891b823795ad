"""Plans as files: what is saved comes back as it was, and every other file is refused in one line."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import mutations
import numpy as np
import pytest

import greenload as gl
from greenload import machine
from greenload.backends import registry
from greenload.errors import BackendUnavailable, GreenloadError, PipelineError, ReportError, SourceError
from greenload.planning import saved
from greenload.planning.cache_form import default_ram
from greenload.planning.choose import make_plan
from greenload.planning.saved import load_plan, plan_data, plan_of
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.sources import Arrays, Files, ImageFolder, Source
from greenload.specs import CACHE_FORMS
from greenload.stages import (
    Apply,
    Batch,
    Cache,
    CenterCrop,
    ColorJitter,
    Decode,
    Echo,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
)
from greenload.stages import primitives as p

USUAL: tuple[Stage, ...] = (
    Shuffle(),
    Decode(),
    RandomResizedCrop(16),
    RandomHorizontalFlip(),
    ToDtype("float32", scale=True),
    Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.5)),
    Batch(4),
)
COUNT = 8


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, bad_images: ModuleType) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(COUNT):
        path = folder / f"class {index % 2}" / f"{index}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bad_images.jpeg(40, 60, seed=index, quality=60))
    return folder


def again(plan: Plan, folder: Path, source: Source | None = None) -> Plan:
    """The plan, saved and read, without a warning."""
    plan.save(folder / "plan.json")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_plan(folder / "plan.json", source)


def usual(source: Source, backend: str | Mapping[str, str] = "auto", *stages: Stage, **options: Any) -> Plan:
    return make_plan(Pipeline(source, *(stages or USUAL), seed=3), backend, **options)


@pytest.mark.parametrize("backend", ["auto", "tf", "native", "pillow", "dali-cpu"])
def test_a_plan_comes_back_as_it_was(backend: str, photos: Path, tmp_path: Path) -> None:
    if backend != "auto" and not registry.get(backend).presence().usable:
        pytest.skip(f"{backend} can't be used here")
    plan = usual(ImageFolder(photos), backend, threads=3, prefetch=5)
    assert again(plan, tmp_path) == plan
    assert again(plan, tmp_path).describe() == plan.describe()
    fused = any(isinstance(step.primitive, p.FlipAffine) for step in plan.steps)
    assert fused == (backend == "dali-cpu")


def test_steps_on_several_backends_come_back(photos: Path, tmp_path: Path) -> None:
    stages = (Decode(), Resize(20), CenterCrop(16), RandomHorizontalFlip(), ColorJitter(0.3), Batch(2))
    plan = usual(ImageFolder(photos), {"Decode": "native", "Resize": "native", "CenterCrop": "pillow"}, *stages)
    assert len(plan.segments) == 3 and again(plan, tmp_path) == plan


@pytest.mark.parametrize("form", [form for form in CACHE_FORMS if form != "resized"])
@pytest.mark.parametrize("where", ["memory", "memory of the process", "folder"])
def test_what_is_kept_comes_back(form: Any, where: str, photos: Path, tmp_path: Path) -> None:
    kept = {
        "memory": Cache(form=form, ram=20_000),
        "memory of the process": Cache(form=form),
        "folder": Cache(str(tmp_path / "kept"), form=form, disk=30_000),
    }[where]
    plan = usual(ImageFolder(photos), "native", kept, *USUAL)
    read = again(plan, tmp_path)
    assert read == plan
    keeps = next(step.keeps for step in read.steps if step.keeps)
    assert keeps.form == form or form == "auto"
    assert keeps.budget == {"memory": 20_000, "memory of the process": default_ram(), "folder": 30_000}[where]


def test_what_fills_a_cache_comes_back_and_gives_the_same_pixels(photos: Path, tmp_path: Path) -> None:
    plan = usual(ImageFolder(photos), "native", Decode(), Resize(24), Cache(ram=1 << 20), *USUAL[2:])
    read = again(plan, tmp_path)
    keeps = next(step.keeps for step in read.steps if step.keeps)
    assert read == plan and [step.name for step in keeps.filling] == ["Decode", "Resize"]
    for (images, labels), (other, others) in zip(gl.iterate(plan), gl.iterate(read), strict=True):
        assert (images == other).all() and (labels == others).all()


def test_caches_of_tf_data_and_echoes_come_back(photos: Path, tmp_path: Path) -> None:
    cached = usual(ImageFolder(photos), "tf", Decode(), Cache(), *USUAL[2:])
    assert again(cached, tmp_path) == cached and not any(step.keeps for step in cached.steps)
    echoed = usual(ImageFolder(photos), "tf", Decode(), Echo(3), *USUAL[2:])
    assert again(echoed, tmp_path) == echoed and echoed.steps[0].serves == 3


def test_a_process_without_a_budget_of_its_own_gets_its_own(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = usual(ImageFolder(photos), "native", Cache(form="planes"), *USUAL)
    monkeypatch.setattr(saved, "default_ram", lambda: 12_345)
    assert next(step.keeps.budget for step in again(plan, tmp_path).steps if step.keeps) == 12_345


def test_arrays_are_given_anew(tmp_path: Path) -> None:
    source = Arrays(np.zeros((4, 20, 18, 3), np.uint8), np.arange(4))
    for backend in ("tf", "native"):  # which leaves the cache out
        plan = usual(source, backend, Cache(), *USUAL[2:])
        assert again(plan, tmp_path, source) == plan
    with pytest.raises(SourceError, match=r"plan\.json: .* pass them as source=Arrays"):
        load_plan(tmp_path / "plan.json")


def test_a_folder_that_moved_is_given_anew(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "old").symlink_to(photos)
    plan = usual(ImageFolder(tmp_path / "old"), "native")
    plan.save(tmp_path / "plan.json")
    (tmp_path / "old").unlink()
    with pytest.raises(SourceError, match=r"plan\.json: .*old.*; where it moved, give load_plan its source="):
        load_plan(tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json", ImageFolder(photos)).steps == plan.steps


def test_the_file_of_a_search_holds_its_plan(photos: Path, tmp_path: Path) -> None:
    plan = usual(ImageFolder(photos))
    (tmp_path / "found.json").write_text(json.dumps({"schema": "greenload.optimization/1", "plan": plan_data(plan)}))
    assert load_plan(tmp_path / "found.json") == plan


@dataclass(frozen=True)
class Found:
    """What holds a plan, as a search's result."""

    plan: Plan


def test_what_holds_a_plan_stands_for_it(photos: Path) -> None:
    plan = usual(ImageFolder(photos), "native", threads=1)
    with gl.iterate(Found(plan)) as batches:
        assert batches.plan is plan
    with pytest.raises(PipelineError, match="must be a Pipeline, not Found"):
        gl.iterate(Found("a plan"))  # type: ignore[arg-type]


@pytest.mark.slow
def test_what_holds_a_plan_is_loaded_and_profiled(photos: Path) -> None:
    plan = usual(ImageFolder(photos), "native", threads=1)
    assert gl.load(Found(plan), epochs=1).greenload_loaded.builder.plan is plan
    assert gl.profile(Found(plan), samples=4, rounds=2).plan["threads"] == 1


def test_functions_without_a_name_are_not_saved(photos: Path, tmp_path: Path) -> None:
    plan = usual(ImageFolder(photos), "tf", Decode(), Resize((8, 8)), Apply(lambda image: image), Batch(2))
    with pytest.raises(PipelineError, match="name"):
        plan.save(tmp_path / "plan.json")
    assert not (tmp_path / "plan.json").exists()


def test_a_file_that_cannot_be_written_or_read_is_one_line(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"the plan can't be written: No such file"):
        usual(ImageFolder(photos)).save(tmp_path / "missing" / "plan.json")
    with pytest.raises(ReportError, match=r"the plan can't be read: No such file.*; check the path"):
        load_plan(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text('{"format": "greenload.pl')
    with pytest.raises(ReportError, match=r"plan\.json: .*it is no JSON.*make the plan anew"):
        load_plan(tmp_path / "plan.json")


def damaged(data: Any, **changes: Any) -> Any:
    return {**data, **changes}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: damaged(data, format="greenload.plan/2"), "format must be one of 'greenload.plan/1'"),
        (lambda data: damaged(data, format="greenload.pipeline/1"), "format must be one of"),
        (lambda data: damaged(data, threads=0), "threads must be an integer from 1"),
        (lambda data: damaged(data, steps=data["steps"][:-1]), "has the steps"),
        (lambda data: damaged(data, steps=[]), "backends for 0 steps on pixels, but here its pipeline has 4"),
        (lambda data: data["steps"][1].update(backend="quick") or data, "backend must be one of 'tf'"),
        (lambda data: data["steps"][2].update(name="Shrink") or data, "has the steps"),
        (lambda data: data["pipeline"]["stages"][2].update(stage="Crop") or data, "stage must be one of"),
        (lambda data: data["pipeline"]["stages"][2].update(sharp=1) or data, "sharp"),
        (lambda data: {"schema": "greenload.report/1"}, "lacks 'format'"),
        (lambda data: [data], "must be an object"),
    ],
)
def test_another_format_or_damage_is_refused(change: Callable[[Any], Any], message: str, photos: Path) -> None:
    data = json.loads(json.dumps(usual(ImageFolder(photos), "native").file_data()))
    with pytest.raises(ReportError, match=message) as caught:
        plan_of(change(data))
    assert "\n" not in str(caught.value) and "make the plan anew" in str(caught.value)


def test_a_form_that_nothing_fills_is_refused(photos: Path) -> None:
    data = json.loads(json.dumps(usual(ImageFolder(photos), "native", Cache(ram=9_000), *USUAL).file_data()))
    data["steps"][1]["keeps"]["form"] = "resized"
    with pytest.raises(ReportError, match="what the stages before Cache give"):
        plan_of(data)


def test_every_damage_is_one_error(photos: Path, tmp_path: Path) -> None:
    """Whatever stands anywhere in the file: it is a plan, or one error of ours that names the file."""
    plan = usual(ImageFolder(photos), "native", Cache(form="planes", ram=9_000), *USUAL)
    file = tmp_path / "plan.json"
    tried = mutations.some(json.loads(json.dumps(plan.file_data())), 300)
    assert len(tried) == 300
    for mutation in tried:
        file.write_bytes(mutations.text_of(mutation))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read = load_plan(file)
            assert str(read) and [step.name for step in read.steps] == [step.name for step in plan.steps]
        except GreenloadError as error:
            assert str(error).startswith(str(file)) and "\n" not in str(error), mutation.what


def test_a_backend_that_is_missing_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = usual(ImageFolder(photos), "native").file_data()
    there = registry.get("native").presence()

    class Missing:
        def presence(self) -> Any:
            return replace(there, usable=False, detail="it isn't built", remedy="build it")

    monkeypatch.setattr(registry, "get", lambda name: Missing())
    with pytest.raises(BackendUnavailable, match="needs backend 'native', which can't be used here: it isn't built; b"):
        plan_of(data)


def test_another_machine_or_other_versions_are_warned_of(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, file = usual(ImageFolder(photos), "native"), tmp_path / "plan.json"
    plan.save(file)
    here = machine.machine()
    there = replace(here, cpu_model="Abacus", cpus=7)
    monkeypatch.setattr(saved, "machine", lambda: there)
    with pytest.warns(UserWarning, match=r"on another machine \(.*; here Abacus, 7\)") as told:
        assert load_plan(file) == plan
    assert "versions" not in str(told[0].message)
    newer = replace(here, packages={**here.packages, "numpy": "99.1"})
    monkeypatch.setattr(saved, "machine", lambda: newer)
    with pytest.warns(UserWarning, match=r"made with other versions \(numpy .*, here 99\.1\): it runs"):
        assert load_plan(file) == plan


def test_records_come_back(photos: Path, tmp_path: Path) -> None:
    gl.pack(ImageFolder(photos), tmp_path / "packed")
    plan = usual(gl.open_folder(tmp_path / "packed"), "native", Cache(form="coefficients", ram=1 << 20), *USUAL)
    assert again(plan, tmp_path) == plan
    listed = usual(Files([str(path) for path in sorted(photos.glob("*/*.jpg"))], list(range(COUNT))), "native")
    assert again(listed, tmp_path) == listed


@pytest.mark.parametrize("path", [None, 3, "", b"plan.json"])
def test_what_is_no_path_is_refused_by_all_that_read_or_write_files(path: Any) -> None:
    plan = make_plan(Pipeline(Arrays(np.zeros((2, 4, 4, 3), np.uint8)), ToDtype("float32"), Batch(2)), "tf")
    for call in (plan.save, gl.load_plan, gl.Report.load, gl.Optimization.load, gl.Comparison.load):
        with pytest.raises(gl.UsageError, match=r"path must be a file's path, not .*: give one such as 'file.json'"):
            call(path)
