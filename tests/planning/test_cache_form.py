"""What a plan's cache keeps: the form, the budget, how much fits, and when it is refused."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from stores import obeying_modes

from greenload.backends.native import library
from greenload.errors import BackendUnavailable, PipelineError
from greenload.loading.iterate import iterate
from greenload.machine import available_memory
from greenload.planning import cache_form as planning
from greenload.planning.cache_form import best_form, default_ram, disk_room
from greenload.planning.choose import make_plan
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.plans.steps import CacheSpec, steps_of
from greenload.sources import Arrays, Files, Source, TFRecords
from greenload.sources.formats import tf_example, tfrecord
from greenload.specs import CacheForm, ImageSpec
from greenload.stages import (
    Batch,
    Cache,
    CenterCrop,
    Decode,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
)

HEIGHT, WIDTH, COUNT = 40, 60, 8
PLANES = HEIGHT * WIDTH * 1.5


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, bad_images: ModuleType) -> Files:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(COUNT):
        (folder / f"{index}.jpg").write_bytes(bad_images.jpeg(HEIGHT, WIDTH, seed=index, quality=15))
    return Files(sorted(map(str, folder.iterdir())))


def planned(source: Source, *stages: Stage, backend: Any = "native") -> Plan:
    return make_plan(Pipeline(source, *stages, Batch(2)), backend, threads=1)


def kept(source: Source, *stages: Stage, backend: Any = "native") -> CacheSpec:
    (cache_spec,) = [step.keeps for step in planned(source, *stages, backend=backend).steps if step.keeps]
    assert cache_spec is not None
    return cache_spec


def behind(cache: Cache) -> tuple[Stage, ...]:
    return (Shuffle(), Decode(), cache, RandomResizedCrop(8))


def test_planes_where_the_whole_set_fits(photos: Files) -> None:
    cache_spec = kept(photos, *behind(Cache()))
    assert (cache_spec.form, cache_spec.path, cache_spec.budget) == ("planes", None, default_ram())
    assert cache_spec.set_bytes == pytest.approx(COUNT * PLANES, rel=0.02)
    assert cache_spec.share == 1 and cache_spec.in_common
    own = kept(photos, *behind(Cache(ram=round(COUNT * PLANES * 1.1))))
    assert own.form == "planes" and not own.in_common


def test_the_form_that_saves_most_of_a_set_that_does_not_fit() -> None:
    takes: dict[CacheForm, float] = {"planes": 100.0, "coefficients": 23.0, "transcoded": 10.0}
    assert best_form(takes, 10, None, 1.0) == "planes"
    assert best_form(takes, 10, 1000, 1.0) == "planes"
    assert best_form(takes, 10, 860, 1.0) == "planes"  # 0.86 · 0.72 > 0.61
    assert best_form(takes, 10, 840, 1.0) == "coefficients"  # 0.84 · 0.72 < 0.61
    assert best_form(takes, 10, 10, 1.0) == "coefficients"
    small: dict[CacheForm, float] = {"planes": 100.0, "coefficients": 60.0, "transcoded": 10.0}
    assert best_form(small, 10, 130, 1.0) == "coefficients"  # 0.22 · 0.61 > 0.12
    assert best_form(small, 10, 110, 1.0) == "transcoded"  # 0.18 · 0.61 < 0.12
    assert best_form(small, 10, 120, 0.1) == "coefficients"  # of other files nothing is transcoded
    assert best_form(takes, 0, 400, 1.0) == "planes"  # nothing is known
    assert best_form(takes, 10, 100, 1.0, vectors=False) == "transcoded"  # coefficients would save nothing


def test_a_small_budget(photos: Files) -> None:
    cache_spec = kept(photos, *behind(Cache(ram=4000)))
    assert (cache_spec.form, cache_spec.budget) == ("coefficients", 4000)
    assert cache_spec.set_bytes is not None
    assert cache_spec.share == pytest.approx(4000 / cache_spec.set_bytes)
    assert 0 < cache_spec.share < 1


def test_a_form_by_name(photos: Files) -> None:
    forms: tuple[CacheForm, ...] = ("encoded", "transcoded", "coefficients", "planes", "pixels")
    for form in forms:
        for stages in (behind(Cache(form=form)), (Cache(form=form), Decode(), RandomCrop(8))):
            cache_spec = kept(photos, *stages)
            assert cache_spec.form == form
            if form == "pixels":
                assert cache_spec.set_bytes == pytest.approx(COUNT * HEIGHT * WIDTH * 3, rel=0.02)


def test_of_pngs_pixels_are_kept(tmp_path: Path, bad_images: ModuleType) -> None:
    (tmp_path / "a.png").write_bytes(bad_images.make_all(tmp_path / "kinds")["palette.png"].read_bytes())
    plan = planned(Files([tmp_path / "a.png"]), *behind(Cache()), backend="auto")
    (cache_spec,) = [step.keeps for step in plan.steps if step.keeps]
    pixels = plan.steps[2].size_out  # of the window
    assert cache_spec is not None and pixels is not None
    assert cache_spec.set_bytes is not None and cache_spec.set_bytes >= 3 * pixels


def test_resized_where_stages_stand_between(photos: Files) -> None:
    for form in ("auto", "resized", "pixels"):
        cache_spec = kept(photos, Decode(), Resize((10, 20)), Cache(form=form), RandomHorizontalFlip())  # type: ignore[arg-type]
        assert cache_spec.form == "resized"
        assert cache_spec.set_bytes == pytest.approx(COUNT * 10 * 20 * 3, rel=0.06)
        assert [step.backend for step in cache_spec.filling] == ["native", "native"]
    short = kept(photos, Decode(), Resize(10), Cache(), RandomCrop(8))
    assert short.set_bytes == pytest.approx(COUNT * 10 * 15 * 3, rel=0.08)


def test_a_folder(photos: Files, tmp_path: Path) -> None:
    cache_spec = kept(photos, *behind(Cache(tmp_path / "kept")))  # type: ignore[arg-type]
    assert (cache_spec.path, cache_spec.budget, cache_spec.share) == (str(tmp_path / "kept"), None, 1)
    limited = kept(photos, *behind(Cache(str(tmp_path), disk=4000)))
    assert (limited.budget, limited.form) == (4000, "coefficients")
    assert not (tmp_path / "kept").exists()  # a plan makes nothing


def test_what_a_folder_holds_already_counts_as_room(tmp_path: Path) -> None:
    free = disk_room(tmp_path / "not" / "there", None)
    held = disk_room(tmp_path, None, 1 << 40)
    assert free is not None and held is not None
    assert abs(held - free - (1 << 40)) < 1 << 30  # others write too
    assert disk_room(tmp_path, 5000, 1 << 40) == 5000


def filled(source: Source, *stages: Stage) -> None:
    list(iterate(planned(source, *stages)))


def test_a_folder_goes_on_in_the_form_that_was_chosen(
    photos: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def form(*stages: Stage) -> str:
        return kept(photos, *stages).form

    own = Cache(str(tmp_path))
    room = 4000
    monkeypatch.setattr(planning, "disk_room", lambda *_: room)
    assert form(*behind(own)) == "coefficients"
    filled(photos, *behind(own))
    room = 1 << 40
    assert form(*behind(own)) == form(own, Decode(), RandomCrop(8)) == "coefficients"
    assert form(*behind(Cache(str(tmp_path), disk=1 << 40))) == "planes"  # as was asked for
    assert form(Decode(exif=True), own, RandomCrop(8)) == "planes"  # nothing of this is there
    filled(photos, *behind(Cache(str(tmp_path), form="pixels")))
    assert form(*behind(own)) == "coefficients"  # a user chose the other
    for file in tmp_path.glob("*/about.json"):
        file.write_text("{")
    assert form(*behind(own)) == "planes"


def test_a_form_that_a_user_named_is_not_chosen_for_ever(photos: Files, tmp_path: Path) -> None:
    filled(photos, *behind(Cache(str(tmp_path), form="transcoded")))
    assert kept(photos, *behind(Cache(str(tmp_path)))).form == "planes"


def test_only_what_is_kept_of_these_very_files_counts_as_room(
    tmp_path: Path, bad_images: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def room(_: Path, __: int | None, bytes_held: int = 0) -> int:
        held.append(bytes_held)
        return 1 << 40

    paths = [tmp_path / f"{index}.jpg" for index in range(3)]
    for path in paths:
        path.write_bytes(bad_images.jpeg(HEIGHT, WIDTH))
    monkeypatch.setattr(planning, "disk_room", room)
    cache = Cache(str(tmp_path / "kept"))
    filled(Files(paths), *behind(cache))
    held.clear()
    filled(Files(paths), *behind(cache))
    assert held and min(held) > 3 * PLANES
    os.utime(paths[1], ns=(1, 1))
    held.clear()
    kept(Files(paths), *behind(cache))
    assert held and not any(held)


def test_auto_takes_it_and_other_backends_do_not(photos: Files) -> None:
    plan = planned(photos, *behind(Cache()), backend="auto")
    assert [step.backend for step in plan.steps if step.kind == "cache"] == ["native"]
    assert plan.segments[0].backend == "native"
    assert plan.expected is not None
    for backend in ("tf", "dali-cpu", "pillow", {"Decode": "native", "RandomResizedCrop": "native"}):
        own = planned(photos, Shuffle(), Cache(), Decode(), RandomResizedCrop(8), backend=backend)
        assert [(step.backend, step.keeps) for step in own.steps if step.kind == "cache"] == [("tf", None)]


def test_what_is_kept_is_priced_below_what_is_not(photos: Files) -> None:
    def cost(*stages: Stage) -> float:
        expected = planned(photos, *stages, backend="auto").expected
        assert expected is not None
        return expected.cost

    streamed = cost(Shuffle(), Decode(), RandomResizedCrop(8))
    planes, half = cost(*behind(Cache())), cost(*behind(Cache(form="planes", ram=round(COUNT * PLANES / 2))))
    assert planes < half < streamed


@dataclass(frozen=True)
class Halved(Stage):
    """A user's own, which comes down to what every backend does."""

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        return Resize((9, 9)).out_spec(spec)

    def primitives(self, spec: ImageSpec) -> Any:
        return Resize((9, 9)).primitives(spec)


REFUSED: dict[str, tuple[tuple[Stage, ...], str, str]] = {
    "another backend": ((Decode(), Cache("k"), CenterCrop(8)), "tf", "use backend='native' or 'auto'"),
    "a form that tf.data lacks": ((Cache(form="pixels"), Decode(), CenterCrop(8)), "tf", "form='pixels'"),
    "a budget": ((Decode(), Cache(ram=9), CenterCrop(8)), "tf", "needs backend 'native'"),
    "floats": ((Decode(), ToDtype("float32"), Cache("k"), CenterCrop(8)), "auto", "put Cache right behind Decode"),
    "a user's stage": ((Decode(), Halved(), Cache("k")), "auto", "the code of Halved changes"),
    "files behind a resize": ((Decode(), Resize(9), Cache(form="planes"), RandomCrop(8)), "auto", "but Resize stands"),
    "nothing resized": ((Decode(), Cache(form="resized"), CenterCrop(8)), "native", "put it behind a stage"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(photos: Files, name: str) -> None:
    stages, backend, words = REFUSED[name]
    with pytest.raises(PipelineError, match=words) as caught:
        planned(photos, *stages, backend=backend)
    assert "Cache(" in str(caught.value)


def test_where_the_kernel_cannot_be_used_the_error_says_so(photos: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise BackendUnavailable(f"the kernel isn't built; {library.INSTALL}")

    monkeypatch.setattr(library, "loaded", missing)
    for backend in ("auto", "tf", "pillow"):
        with pytest.raises(PipelineError) as caught:
            planned(photos, Decode(), Cache("k"), CenterCrop(8), backend=backend)
        assert "that can't be used here: the kernel isn't built; " in str(caught.value)
        assert "another backend decodes" not in str(caught.value)
    assert planned(photos, Decode(), Cache(), CenterCrop(8), backend="auto").steps


def test_auto_is_no_remedy_where_it_chose(photos: Files) -> None:
    pipeline = Pipeline(photos, Decode(), Cache("k"), CenterCrop(8), Batch(2))
    for auto, remedy in ((False, "use backend='native' or 'auto'; or"), (True, "use backend='native'; or")):
        with pytest.raises(PipelineError, match=remedy):
            planning.check_caches(pipeline, steps_of(pipeline), auto)


@pytest.mark.parametrize("cache", [Cache(), Cache(form="transcoded")])
def test_steps_placed_by_hand_keep_no_files_and_the_error_names_what_does(photos: Files, cache: Cache) -> None:
    for by_hand in (
        {"Decode": "native"},
        {"Decode": "native", "RandomResizedCrop: resize": "pillow"},
        {"Decode": "native", "RandomHorizontalFlip": "dali-cpu"},
    ):
        with pytest.raises(PipelineError) as caught:
            planned(photos, Decode(), cache, RandomResizedCrop(8), RandomHorizontalFlip(), backend=by_hand)
        assert "placed by hand" in str(caught.value) and "use backend='native' or 'auto'" in str(caught.value)
        assert "write Cache()" not in str(caught.value), "that would be refused too"
    with pytest.raises(PipelineError, match="use backend='native' or 'auto'") as caught:
        planned(photos, Decode(), cache, CenterCrop(8), backend={"Decode": "pillow"})
    assert "by hand" not in str(caught.value)
    with pytest.raises(PipelineError, match="use backend='tf'"):
        planned(photos, Decode(), ToDtype("float32"), Cache(), CenterCrop(8), backend="native")


def test_a_budget_that_holds_no_image_is_said(photos: Files, tmp_path: Path) -> None:
    for cache, remedy in (
        (Cache(ram=100), "has room for 100 B, but an image takes about .* raise ram, or remove Cache"),
        (Cache(tmp_path / "k", disk=100), "raise disk, or remove Cache"),
        (Cache(ram=2000, form="planes"), "as 'planes', so hardly any is kept: raise ram"),
    ):
        with pytest.warns(UserWarning, match=remedy):
            planned(photos, *behind(cache))


@pytest.mark.parametrize("name", ["closed/in", "x" * 300])
def test_a_folder_that_cannot_be_looked_into_is_no_error_of_planning(photos: Files, tmp_path: Path, name: str) -> None:
    program = """
import sys
from greenload import Batch, Cache, Decode, Files, Pipeline, RandomResizedCrop, iterate
stages = Decode(), Cache(sys.argv[1]), RandomResizedCrop(8), Batch(2)
try:
    iterate(Pipeline(Files(sys.argv[2:]), *stages), backend="native")
except Exception as error:
    print(type(error).__name__, error)
"""
    (tmp_path / "closed").mkdir(mode=0)
    command = [*obeying_modes(), sys.executable, "-c", program, str(tmp_path / name), *photos.paths]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    (tmp_path / "closed").chmod(0o755)
    assert said.startswith(f"PipelineError Cache(path='{tmp_path / name}') can't keep images there: "), said
    assert said.endswith(": name a folder that can be written, or leave path out\n")


def test_without_a_batch_or_a_source_read_by_index(photos: Files, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="add Batch"):
        make_plan(Pipeline(photos, Decode(), Cache("k")), "auto")
    assert all(step.keeps is None for step in make_plan(Pipeline(photos, Decode(), Cache()), "auto").steps)
    packed = tmp_path / "all.tfrecord.gz"
    packed.write_bytes(gzip.compress(tfrecord.framed([tf_example.serialize(photos.read(0), 1)])))
    with pytest.raises(PipelineError, match="greenload pack"):
        planned(TFRecords(packed, "image", "label"), Decode(), Cache("k"), CenterCrop(8), backend="auto")


def test_what_tf_data_keeps_itself_may_be_named(photos: Files) -> None:
    for stages in ((Cache(form="encoded"), Decode()), (Decode(), Cache(form="pixels"))):
        plan = planned(photos, *stages, CenterCrop(8), backend="tf")
        assert [step.backend for step in plan.steps if step.kind == "cache"] == ["tf"]


def test_arrays_need_no_cache() -> None:
    pixels = Arrays(np.zeros((4, 9, 7, 3), np.uint8))
    for backend in ("native", "auto"):
        assert "Cache" not in [step.name for step in planned(pixels, Cache(), CenterCrop(4), backend=backend).steps]
    assert "Cache" in [step.name for step in planned(pixels, Cache(), CenterCrop(4), backend="tf").steps]


def test_arrays_that_are_resized_first_need_no_folder() -> None:
    pixels = Arrays(np.zeros((4, 9, 7, 3), np.uint8))
    with pytest.raises(PipelineError, match=r"Arrays are pixels in memory already: remove Cache; or write Cache\(\)"):
        planned(pixels, Resize(8), Cache("kept"), CenterCrop(4))
    for cache in ((), (Cache(),)):  # as it says
        assert planned(pixels, Resize(8), *cache, CenterCrop(4), backend="auto").steps


def test_a_plan_says_what_it_keeps_and_how_much_fits(photos: Files) -> None:
    text = planned(photos, *behind(Cache())).describe()
    assert "Cache: planes in memory, about 28.8 kB in all; all expected to fit in " in text.replace(
        "29.1 kB", "28.8 kB"
    )
    plan = planned(photos, *behind(Cache("kept", form="planes", disk=round(COUNT * PLANES / 2))))
    assert "Cache: planes in kept, about " in plan.describe()
    assert "; 50 % expected to fit in 14.4 kB" in plan.describe()
    (told,) = [step["keeps"] for step in plan.to_dict()["steps"] if "keeps" in step]
    assert told["form"] == "planes"
    assert told["path"] == "kept"
    assert told["budget"] == round(COUNT * PLANES / 2)
    assert told["share"] == pytest.approx(0.5, abs=0.01)


def test_the_memory_of_a_control_group(tmp_path: Path) -> None:
    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write("proc/meminfo", "MemTotal: 90 kB\nMemAvailable:    64 kB\n")
    assert available_memory(tmp_path) == 64 << 10
    write("proc/self/cgroup", "0::/jobs/mine\n")
    write("sys/fs/cgroup/jobs/mine/memory.max", "max\n")
    write("sys/fs/cgroup/jobs/memory.max", "50000\n")
    write("sys/fs/cgroup/jobs/memory.current", "30000\n")
    assert available_memory(tmp_path) == 20000
    write("sys/fs/cgroup/jobs/memory.stat", "anon 9\ninactive_file 5000\n")
    assert available_memory(tmp_path) == 25000  # cached files make room
    write("sys/fs/cgroup/jobs/memory.current", "60000\n")
    assert available_memory(tmp_path) == 0
    write("proc/self/cgroup", "4:memory:/jobs\n")
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "40000\n")
    write("sys/fs/cgroup/memory/memory.usage_in_bytes", "30000\n")
    write("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 2000\n")
    assert available_memory(tmp_path) == 12000


def test_half_of_what_is_available_whatever_is_kept_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    default_ram.cache_clear()
    monkeypatch.setattr(planning, "available_memory", lambda: 4000)
    assert default_ram() == 2000
    monkeypatch.setattr(planning, "available_memory", lambda: 1000)
    assert default_ram() == 2000
    default_ram.cache_clear()
