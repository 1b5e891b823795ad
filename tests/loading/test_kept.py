"""What ``iterate`` keeps between epochs on backend "native": the same pixels in every form, each record read once, and
nothing that was of another source."""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import encoders as e
import numpy as np
import odd_images
import pytest

import greenload as gl
import greenload.loading.iterate as iterating
from greenload.backends.base import Records
from greenload.backends.chain import Chain
from greenload.backends.native import cache as native_cache
from greenload.backends.native import cached_reader, library
from greenload.backends.native.cache import key_of, open_store
from greenload.backends.native.store import FACTS, State, Store
from greenload.planning.choose import helpers, make_plan, readers_for
from greenload.plans.plan import Plan
from greenload.sources import Files, formats
from greenload.specs import CACHE_FORMS, CacheForm
from greenload.stages import (
    Batch,
    Cache,
    CenterCrop,
    Decode,
    Normalize,
    Pad,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* have an EXIF orientation"),  # tests/loading/test_survey.py
    pytest.mark.filterwarnings("ignore:.* are of kinds that no backend here reads"),
    pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "it is there"),
]
EPOCHS, BATCH = 3, 4
RANDOM: tuple[Stage, ...] = (RandomResizedCrop(16), RandomHorizontalFlip())
FORMS = [form for form in CACHE_FORMS if form != "resized"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, bad_images: ModuleType) -> Files:
    """Thirteen JPEGs of sizes that differ; some lie on their side, one is grey, one progressive."""
    paths = bad_images.make_photos(tmp_path_factory.mktemp("photos"), 13)
    return Files(paths, np.arange(len(paths)) % 5)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Pictures of many kinds, odd ones too, that the native backend reads with the help of others."""
    folder = tmp_path_factory.mktemp("odd")
    files = [data for number, data in enumerate(odd_images.pictures().values()) if number % 7 == 0]
    plan = planned(Files(["a.jpg"]), Decode(), CenterCrop(8))
    good = []
    with Chain(plan, 1) as chain:
        for number, data in enumerate(files):
            try:
                chain.run(Records([data], np.zeros((1, 0)), [str(number)]))
            except gl.RecordError:
                continue
            good.append(folder / str(number))
            good[-1].write_bytes(data)
    assert {formats.sniff(path.read_bytes()) for path in good} >= {"JPEG", "PNG", "GIF", "BMP", "WebP"}
    return Files(good)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each record is read of a list of files, without the look from which warnings are made."""
    counted: Counter[int] = Counter()
    read = Files.read

    def counting(source: Files, index: int) -> bytes:
        counted[index] += 1
        return read(source, index)

    monkeypatch.setattr(Files, "read", counting)
    monkeypatch.setattr(iterating, "warn_of_losses", lambda *_, **__: None)
    return counted


def planned(source: Any, *stages: Stage, seed: int = 5) -> Plan:
    plan = make_plan(gl.Pipeline(source, *stages, Batch(BATCH), seed=seed), "native", threads=2)
    return replace(plan, readers=readers_for("native", helpers()))


def batches(plan: Plan, epochs: int = EPOCHS, **options: Any) -> list[Any]:
    return [(np.array(images), labels) for images, labels in gl.iterate(plan, epochs=epochs, **options)]


def loaded(plan: Plan) -> list[Any]:
    """The batches that ``load`` gives."""
    pytest.importorskip("tensorflow")
    return [(images.numpy(), labels.numpy()) for images, labels in gl.load(plan, epochs=EPOCHS)]


def same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) > 0 and all(
        (a == b).all() and (x == y).all() and a.dtype == b.dtype for (a, x), (b, y) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("exif", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_photographs_in_every_form_each_read_once(
    photos: Files, reads: Counter[int], form: Any, exif: bool, tmp_path: Path
) -> None:
    plain = batches(planned(photos, Shuffle(), Decode(exif=exif), *RANDOM))
    for cache in (Cache(form=form), Cache(str(tmp_path / "kept"), form=form)):
        plan = planned(photos, Shuffle(), Decode(exif=exif), cache, *RANDOM)
        reads.clear()
        assert same(plain, batches(plan))
        assert reads == Counter(range(len(photos)))
    reads.clear()
    assert same(plain, batches(plan))  # from the folder
    assert not reads


@pytest.mark.parametrize("form", FORMS)
def test_odd_pictures_of_every_kind(odd: Files, reads: Counter[int], form: Any) -> None:
    stages = (CenterCrop(12), RandomHorizontalFlip())
    plain = batches(planned(odd, Shuffle(), Decode(exif=True), *stages))
    plan = planned(odd, Shuffle(), Cache(form=form), Decode(exif=True), *stages)
    reads.clear()
    assert same(plain, batches(plan))
    assert reads == Counter(range(len(odd)))


RESIZED: dict[str, tuple[Sequence[Stage], Sequence[Stage]]] = {
    "one size": ((Resize((20, 24)),), (RandomCrop(16), RandomHorizontalFlip())),
    "several sizes": ((Resize(20, antialias=True),), RANDOM),
    "cropped": ((CenterCrop(30), Pad(2)), (RandomHorizontalFlip(), ToDtype("float32"), Normalize((9,), (3,)))),
    "resized again": ((Resize((30, 20)), Resize((17, 19))), (RandomResizedCrop(16),)),
    "larger": ((Resize((300, 200)),), (RandomCrop(40),)),
}


@pytest.mark.parametrize("exif", [False, True])
@pytest.mark.parametrize("name", RESIZED)
def test_what_stands_between_decoding_and_the_cache_is_done_once(
    photos: Files, reads: Counter[int], name: str, exif: bool, tmp_path: Path
) -> None:
    before, behind = RESIZED[name]
    decode = Decode(exif=exif, max_bytes=11 * 120 * 120)
    plain = batches(planned(photos, Shuffle(), decode, *before, *behind))
    for cache in (Cache(), Cache(str(tmp_path / "kept")), Cache(str(tmp_path / "kept"))):
        plan = planned(photos, Shuffle(), decode, *before, cache, *behind)
        reads.clear()
        assert same(plain, batches(plan))
        assert sum(reads.values()) in (0, len(photos))
    assert not reads  # the last from the folder


def test_odd_pictures_resized(odd: Files) -> None:
    stages = (Shuffle(), Decode(exif=True), Resize((9, 11)))
    plain = batches(planned(odd, *stages, RandomHorizontalFlip()))
    assert same(plain, batches(planned(odd, *stages, Cache(), RandomHorizontalFlip())))


def test_a_record_that_several_threads_want_is_read_once(photos: Files, reads: Counter[int]) -> None:
    plan = planned(Files(photos.paths[:3]), Shuffle(), Decode(), Cache(), *RANDOM)
    reads.clear()
    assert len(batches(plan, 40)) == 40  # an epoch is one batch, and several are read at a time
    assert reads == Counter(range(3))


def test_what_was_small_enough_when_it_was_kept_still_is(bad_images: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(e.png(e.pixels(60, 60)))
    decode = Decode(max_bytes=37_800)  # enough for this PNG, not for a JPEG of its size
    for cache in ((), (Cache(),), (Cache(form="encoded"),)):
        plan = planned(Files([tmp_path / "a.png"]), decode, *cache, *RANDOM)
        assert same(batches(plan), loaded(plan))
    small = Decode(max_bytes=30_000)
    for cache in ((), (Cache(),), (Cache(form="encoded"),)):
        with pytest.raises(gl.RecordError, match="max_bytes"):
            batches(planned(Files([tmp_path / "a.png"]), small, *cache, *RANDOM))


def test_auto_keeps_too_and_resumes_anywhere(photos: Files) -> None:
    whole = batches(planned(photos, Shuffle(), Decode(), *RANDOM))
    pipeline = gl.Pipeline(photos, Shuffle(), Decode(), Cache(), *RANDOM, Batch(BATCH), seed=5)
    with gl.iterate(pipeline, epochs=EPOCHS, start=gl.Position(1, 4), threads=2) as iterator:
        resumed = [(np.array(images), labels) for images, labels in iterator]
    assert same(whole[-len(resumed) :], resumed)


def test_half_a_budget_keeps_half_and_never_lets_it_go(photos: Files, reads: Counter[int]) -> None:
    stages = (Shuffle(), Decode(), *RANDOM)
    plain = batches(planned(photos, *stages), 5)
    whole = planned(photos, *stages[:2], Cache(form="pixels"), *RANDOM).steps[1].keeps
    assert whole is not None and whole.set_bytes is not None
    plan = planned(photos, *stages[:2], Cache(form="pixels", ram=round(whole.set_bytes / 2)), *RANDOM)
    reads.clear()
    assert same(plain, batches(plan, 5))
    kept = {index for index in reads if reads[index] == 1}
    assert 4 <= len(kept) <= 8
    assert all(reads[index] == 5 for index in range(len(photos)) if index not in kept)


@pytest.mark.parametrize("read", [batches, loaded])
def test_the_usual_budget_is_one_for_all_that_a_process_keeps(
    photos: Files, monkeypatch: pytest.MonkeyPatch, read: Callable[[Plan], list[Any]]
) -> None:
    whole = planned(photos, Shuffle(), Decode(), Cache(form="pixels"), *RANDOM).steps[1].keeps
    assert whole is not None and whole.set_bytes is not None
    monkeypatch.setattr("greenload.planning.cache_form.default_ram", lambda: round(whole.set_bytes))
    first = planned(photos, Shuffle(), Decode(), Cache(form="pixels"), *RANDOM)
    second = planned(photos, Shuffle(), Decode(), Cache(form="planes"), *RANDOM)
    own = planned(photos, Shuffle(), Decode(), Cache(form="transcoded", ram=1 << 30), *RANDOM)
    given = read(first)
    assert same(given, read(second)) and same(given, read(own))
    kept, size = [], []
    for plan in (first, second, own):
        with open_store(plan) as store:
            kept.append(store.state().kept)
            size.append(store.state().bytes)
    assert kept[0] > kept[1] and kept[1] < len(photos) == kept[2]
    assert 0 < size[0] + size[1] <= round(whole.set_bytes)


@pytest.mark.parametrize("place", ["ram", "disk"])
@pytest.mark.parametrize("form", FORMS)
def test_bad_records_are_named_in_every_epoch(
    photos: Files, bad_images: ModuleType, form: Any, place: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photos.read(4)[: len(photos.read(4)) * 2 // 3])
    notes, empty, refused = tmp_path / "notes.jpg", tmp_path / "empty.jpg", tmp_path / "pixels.jpg"
    notes.write_text("not an image")
    refused.write_bytes(b"P6\n30 40\n255\n" + bytes(30 * 40 * 3))  # a form of the kernel's own, but a user's file
    empty.write_bytes(b"")
    path = {"path": str(tmp_path / "kept")} if place == "disk" else {}
    for bad in (broken, notes, empty, refused, tmp_path / "missing.jpg"):
        source = Files([*photos.paths[:6], bad])
        plain = planned(source, Decode(), *RANDOM)
        with pytest.raises(gl.RecordError) as wanted:
            batches(plain, 1)
        plan = planned(source, Decode(), Cache(form=form, **path), *RANDOM)
        with gl.iterate(plan, epochs=1) as held:  # keeps the store
            next(held)
            for _ in range(3):
                with pytest.raises(gl.RecordError) as caught:
                    batches(plan, 1)
                assert str(caught.value) == str(wanted.value)
                assert caught.value.path == str(bad)


def test_too_small_an_image_is_named_where_it_is_cropped(photos: Files) -> None:
    for stages in ((Cache(), RandomCrop(50)), (RandomCrop(50),), (Resize(20), Cache(), RandomCrop(50))):
        with pytest.raises(gl.RecordError, match="at least 50×50"):
            batches(planned(photos, Decode(), *stages))


def test_another_process_reads_what_one_has_kept(photos: Files, tmp_path: Path) -> None:
    code = f"""
import sys, numpy as np, greenload as gl
from greenload.sources import Files
read = Files.read
count = 0
def counting(source, index):
    global count
    count += 1
    return read(source, index)
Files.read = counting
stages = gl.Decode(), gl.Cache({str(tmp_path / "kept")!r}), gl.CenterCrop(16), gl.Batch(4)
pipeline = gl.Pipeline(Files({list(photos.paths)!r}), *stages)
plan = gl.make_plan(pipeline, "native", threads=1)
import greenload.loading.iterate as iterating
iterating.warn_of_losses = lambda *_, **__: None
count = 0
total = sum(int(images.sum()) for images, _ in gl.iterate(plan))
print(count, total)
"""
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    first, second = (run.stdout.split() for run in runs)
    assert first[0] == str(len(photos))
    assert second == ["0", first[1]]


def test_a_changed_file_is_kept_anew(photos: Files, bad_images: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "a"
    folder.mkdir(parents=True)
    for index in range(5):
        (folder / f"{index}.jpg").write_bytes(bad_images.jpeg(30, 40, seed=index))
    for cache in (Cache(), Cache(str(tmp_path / "kept"))):
        stages = (Decode(), cache, CenterCrop(16))
        before = batches(planned(gl.ImageFolder(folder.parent, 1), *stages))
        data = (folder / "2.jpg").read_bytes()
        changed = bad_images.jpeg(30, 40, seed=99)
        (folder / "2.jpg").write_bytes(changed)
        after = batches(planned(gl.ImageFolder(folder.parent, 1), *stages))
        assert not same(before, after)
        assert same(after, batches(planned(gl.ImageFolder(folder.parent, 1), Decode(), CenterCrop(16))))
        (folder / "2.jpg").write_bytes(data)


def test_what_a_key_depends_on(photos: Files) -> None:
    def key(*stages: Stage, source: Files = photos, seed: int = 5) -> bytes:
        return key_of(planned(source, *stages, *RANDOM, seed=seed))

    one = key(Shuffle(), Decode(), Cache(form="planes"))
    assert one == key(Cache(form="planes"), Decode(), seed=9)
    assert one == key(Decode(), Cache("elsewhere", form="planes", disk=1 << 30))
    assert one == key(Decode(), Cache(form="planes"), source=Files(photos.paths, np.arange(len(photos))))
    others = [
        key(Decode(), Cache(form="pixels")),
        key(Decode(exif=True), Cache(form="planes")),
        key(Decode(max_bytes=1 << 20), Cache(form="planes")),
        key(Decode(truncated="fill"), Cache(form="planes")),
        key(Decode(), Cache(form="planes"), source=Files(photos.paths[:5])),
        key(Decode(), Resize((20, 20)), Cache()),
        key(Decode(), Resize((20, 21)), Cache()),
        key(Decode(), Resize((20, 20), antialias=False), Cache()),
    ]
    assert len({one, *others}) == 1 + len(others)


@pytest.mark.parametrize("what", ["kernel", "packages"])
def test_what_was_decoded_by_other_versions_is_kept_anew(
    photos: Files, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: dict[CacheForm, Plan] = {"resized": planned(photos, Decode(), Resize((20, 20)), Cache(), *RANDOM)}
    for form in ("encoded", "transcoded", "coefficients", "planes", "pixels"):
        plans[form] = planned(photos, Decode(), Cache(form=form), *RANDOM)
    before = {form: key_of(plan) for form, plan in plans.items()}
    if what == "kernel":
        monkeypatch.setattr(library, "fingerprint", lambda: "another")
    else:
        monkeypatch.setattr(native_cache, "package_versions", lambda names: dict.fromkeys(names, "0.1"))
    changed = {form for form, plan in plans.items() if key_of(plan) != before[form]}
    assert changed == {"coefficients", "planes", "pixels", "resized"}


def test_iterators_of_a_process_share_what_is_kept(photos: Files, reads: Counter[int]) -> None:
    plan = planned(photos, Shuffle(), Decode(), Cache(), *RANDOM)
    other_plan = planned(photos, Shuffle(), Cache(), Decode(), CenterCrop(9), seed=2)
    with gl.iterate(plan, epochs=1) as one:
        list(one)
        reads.clear()
        batches(other_plan)
        assert not reads


@pytest.mark.parametrize("before", [(), (Resize((20, 24)),)])
@pytest.mark.parametrize("place", ["memory", "folder"])
def test_load_and_iterate_share_what_is_kept(
    photos: Files, place: str, before: tuple[Stage, ...], tmp_path: Path
) -> None:
    cache = Cache() if place == "memory" else Cache(str(tmp_path / "kept"))
    stages = Shuffle(), Decode(exif=True), *before
    source = Files(photos.paths[:11])  # which no other test keeps
    plain = batches(planned(source, *stages, *RANDOM))
    plan = planned(source, *stages, cache, *RANDOM)
    assert same(plain, loaded(plan))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cached_reader, "read_many", lambda *_: pytest.fail("a record is read anew"))
        assert same(plain, batches(plan))
    with open_store(plan) as store:
        assert store.state().kept == 11


def test_what_is_in_memory_stays_as_long_as_its_pipeline(photos: Files, reads: Counter[int]) -> None:
    source = Files(photos.paths[:7])  # which no other test keeps
    plan = planned(source, Shuffle(), Decode(), Cache(), *RANDOM)
    reads.clear()
    first = batches(plan, 1)
    assert reads == Counter(range(7))
    reads.clear()
    assert same(first, batches(plan, 1))  # another iterator
    assert not reads
    with open_store(plan) as store:
        assert store.state().kept == 7
    key = key_of(plan)
    del plan
    gc.collect()
    with Store(None, key, 7) as store:
        assert store.state().kept == 0


def test_a_child_keeps_its_own_of_a_pipeline_that_its_parent_has_iterated(photos: Files, reads: Counter[int]) -> None:
    pipeline = gl.Pipeline(photos, Shuffle(), Decode(), Cache(), *RANDOM, Batch(BATCH))
    plan = replace(make_plan(pipeline, "native", threads=2), readers=readers_for("native", helpers()))

    def records_read() -> int:
        reads.clear()
        list(gl.iterate(plan))
        return reads.total()

    assert [records_read() for _ in range(2)] == [13, 0]
    child = os.fork()
    if not child:
        os._exit(0 if [records_read() for _ in range(3)] == [13, 0, 0] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert records_read() == 0


def test_a_folder_that_cannot_be_used_is_said_before_anything_runs(photos: Files, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    plan = planned(photos, Decode(), Cache(str(tmp_path / "file")), *RANDOM)
    with pytest.raises(gl.PipelineError, match="name a folder that can be written"):
        gl.iterate(plan)


def test_trouble_is_said_once(photos: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = Store.state

    def full(store: Store) -> State:
        return replace(state(store), trouble="the disk is full", full=True)

    monkeypatch.setattr(Store, "state", full)
    plan = planned(photos, Decode(), Cache(str(tmp_path / "kept")), *RANDOM)
    with pytest.warns(UserWarning, match="the disk is full") as caught:
        batches(plan)
    assert len([warning for warning in caught if "full" in str(warning.message)]) == 1


@pytest.mark.parametrize("how", ["whole", "given up", "load"])
def test_a_disk_that_is_full_is_said_where_a_stream_ends(photos: Files, how: str, tmp_path: Path) -> None:
    plan = planned(photos, Decode(), Cache(str(tmp_path / "kept"), form="pixels"), *RANDOM)
    plain = batches(planned(photos, Decode(), *RANDOM))
    if how == "load":
        pytest.importorskip("tensorflow")
        dataset = gl.load(plan, epochs=EPOCHS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.warns(UserWarning, match="File too large") as caught:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 13, hard))  # less than the one block, written last
        try:
            if how == "whole":
                assert same(plain, batches(plan))
            elif how == "given up":
                with gl.iterate(plan) as iterator:
                    next(iterator)
            else:
                for _ in range(2):  # each time it is tried to write what is kept, under another name
                    assert same(plain, [(images.numpy(), labels.numpy()) for images, labels in dataset])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (warning,) = [warning for warning in caught if "File too large" in str(warning.message)]
    assert warning.filename == __file__
    assert "Cache(" in str(warning.message)


def test_a_description_lies_beside_what_is_kept(photos: Files, tmp_path: Path) -> None:
    plan = planned(photos, Decode(), Resize((9, 9)), Cache(str(tmp_path / "kept")), RandomHorizontalFlip())
    batches(plan, 1)
    (own,) = (tmp_path / "kept").iterdir()
    assert own.name == key_of(plan).hex()
    facts = json.loads((own / FACTS).read_text())
    assert facts["form"] == "resized"
    assert facts["stages"] == ["Decode()", "Resize(size=(9, 9))"]
