"""Plans of several backends: the order, labels and pixels that one backend gives; what is refused; what fails."""

from __future__ import annotations

import gc
import io
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import conformance as suite
import encoders as e
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenload as gl
from greenload.backends import registry
from greenload.backends.base import Availability
from greenload.backends.chain import run_plan
from greenload.errors import BackendUnavailable, PipelineError, RecordError
from greenload.loading.tf_graph import PlanGraph
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan
from greenload.plans.steps import steps_of
from greenload.randomness import permute
from greenload.sources import Arrays, Files, Source
from greenload.stages import (
    Apply,
    Batch,
    Cache,
    CenterCrop,
    ColorJitter,
    Decode,
    GaussianBlur,
    Normalize,
    OneHot,
    Pad,
    RandomCrop,
    RandomErasing,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomVerticalFlip,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
)

tf = pytest.importorskip("tensorflow")
pytest.importorskip("nvidia.dali")
pytestmark = pytest.mark.filterwarnings("ignore:.* have an EXIF orientation")  # tests/loading/test_survey.py

COUNT, SIZE, SEED = 11, 4, 7
DALI, PILLOW, TF = "dali-cpu", "pillow", "tf"
FLOATS = Arrays(np.random.default_rng(0).random((COUNT, 20, 30, 1), np.float32), np.arange(COUNT) * 2)
LEVELS = Arrays(np.random.default_rng(1).integers(0, 256, (COUNT, 33, 40, 3), np.uint8), np.arange(COUNT))
Placed = Mapping[str, str]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, bad_images: ModuleType) -> Files:
    """JPEGs of sizes that differ; some lie on their side."""
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{k}.jpg" for k in range(COUNT)]
    for k, path in enumerate(paths):
        data = bad_images.jpeg(40 + 3 * k, 75 - 2 * k, seed=k, subsampling=k % 3)
        path.write_bytes(e.with_exif(data, 6) if k % 3 == 1 else data)
    return Files(paths, np.arange(COUNT) % 5)


def pixels_of(source: Source, exif: bool = False) -> list[np.ndarray[Any, Any]]:
    image_module = pytest.importorskip("PIL.Image")
    ops = pytest.importorskip("PIL.ImageOps")
    images = []
    for index in range(len(source)):
        data: Any = source.read(index)
        if isinstance(data, bytes):
            image = image_module.open(io.BytesIO(data))
            data = np.asarray((ops.exif_transpose(image) if exif else image).convert("RGB"))
        images.append(data)
    return images


def planned(source: Source, stages: Sequence[Stage], placed: Placed | str, **options: Any) -> Plan:
    batched = () if any(isinstance(stage, Batch) for stage in stages) else (Batch(SIZE, **options),)
    return make_plan(gl.Pipeline(source, *stages, *batched, seed=SEED), placed, threads=2)


def collected(dataset: Any) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    return [(images.numpy(), labels.numpy()) for images, labels in dataset]


def flat(dataset: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    found = collected(dataset)
    return np.concatenate([images for images, _ in found]), np.concatenate([labels for _, labels in found])


def order(plan: Plan, epoch: int) -> np.ndarray[Any, Any]:
    index: np.ndarray[Any, Any] = np.arange(COUNT)
    return permute(index, COUNT, SEED, epoch) if plan.pipeline.shuffled else index


def expected(plan: Plan, epoch: int) -> np.ndarray[Any, Any]:
    """An epoch's images by the float64 references."""
    pipeline, index = plan.pipeline, order(plan, epoch)
    exif = any(isinstance(stage, Decode) and stage.exif for stage in pipeline.stages)
    images = pixels_of(pipeline.source, exif)
    numbers = DrawLayout.of(pipeline).prepare(SEED, epoch, index)
    return suite.reference(pipeline, [images[i] for i in index], numbers)


def usable(*names: str) -> None:
    for name in names:
        found = registry.get(name).availability()
        if not found.usable:
            pytest.skip(f"{name}: {found.detail}; {found.remedy}")


def darker(image: Any) -> Any:
    return image // 2


def kept(image: Any) -> Any:
    return image


AUGMENTED: tuple[Stage, ...] = (Decode(), RandomResizedCrop(24), RandomHorizontalFlip())
VALUES: tuple[Stage, ...] = (ToDtype("float32", scale=True), Normalize(suite.MEAN, suite.STD))
CROP, RESIZE = "Decode + crop", "RandomResizedCrop: resize"
STREAMS: dict[str, tuple[Any, tuple[Stage, ...], Placed]] = {
    "images of different sizes cross": (
        None,
        (Shuffle(), Decode(exif=True), RandomVerticalFlip(), RandomResizedCrop(24), *VALUES, Batch(SIZE)),
        {"RandomResizedCrop": DALI},
    ),
    "steps on tf before and behind Batch follow another backend": (
        None,
        (
            Decode(exif=True),
            Resize((32, 32)),
            GaussianBlur(5),
            ColorJitter(0.2),
            RandomCrop(28, padding=4),
            RandomResizedCrop(16),
            Batch(SIZE),
            RandomGrayscale(0.5),
            *VALUES,
        ),
        {"Decode": DALI, "Resize": DALI},
    ),
    "to and fro, and behind Batch": (
        None,
        (Decode(), Resize((32, 32)), RandomHorizontalFlip(), Pad(2), Batch(SIZE), RandomErasing(0.7), *VALUES),
        {"Resize": DALI, "Pad": DALI, "RandomErasing": DALI},
    ),
    "caches before a crossing": (
        None,
        (Cache(), Decode(), Cache(), CenterCrop(30), RandomHorizontalFlip()),
        {"CenterCrop": DALI},
    ),
    "one channel of float32": (
        FLOATS,
        (RandomHorizontalFlip(), Resize((9, 11), antialias=False), RandomVerticalFlip(), OneHot(2 * COUNT)),
        {"Resize": DALI},
    ),
    "only values cross": (LEVELS, (RandomVerticalFlip(), Batch(SIZE), *VALUES), {"ToDtype": DALI}),
    "one backend to the next": (
        None,
        (Shuffle(), *AUGMENTED, *VALUES),
        {CROP: DALI, RESIZE: PILLOW},
    ),
    "three backends, the last one tf": (
        None,
        (Decode(), CenterCrop(40), Resize((24, 24)), RandomHorizontalFlip(), ColorJitter(0.2), Batch(SIZE), *VALUES),
        {CROP: DALI, "CenterCrop: pad": DALI, "Resize": PILLOW},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STREAMS)
def test_order_labels_and_pixels_are_those_of_one_backend(photos: Files, name: str) -> None:
    source, stages, placed = STREAMS[name]
    usable(*placed.values())
    plan = planned(source or photos, stages, placed)
    assert plan.backend == "mixed"
    batches = collected(gl.load(plan, epochs=2))
    assert [len(labels) for _, labels in batches] == [4, 4, 3] * 2
    for epoch in (0, 1):
        images, labels = (np.concatenate(parts) for parts in zip(*batches[3 * epoch : 3 * epoch + 3], strict=True))
        wanted = plan.pipeline.source.labels[order(plan, epoch)]
        assert (labels == DrawLayout.of(plan.pipeline).labels(wanted, None)).all()
        assert str(images.dtype) == plan.out_spec.dtype
        found = suite.Difference.of(images, expected(plan, epoch))
        assert found.within(suite.held(plan)), f"{found} is beyond {suite.held(plan)}"


@pytest.mark.slow
def test_a_users_function_runs_on_single_images_and_on_batches_that_came_back(photos: Files) -> None:
    stages = (*AUGMENTED, Apply(darker), Batch(SIZE), Apply(darker))
    plan = planned(photos, stages, {CROP: DALI, RESIZE: DALI})
    images, _ = flat(gl.load(plan, epochs=1))
    whole = planned(photos, (*AUGMENTED, Batch(SIZE)), "tf")
    assert np.abs(images - expected(whole, 0).astype(int) // 4)[:, 1:-1, 1:-1].max() <= 1


@pytest.mark.long  # of one backend, tests/loading/test_load.py and test_native_graph.py
def test_every_form_of_a_stream(photos: Files) -> None:
    stages = (Shuffle(), *AUGMENTED)
    plan = planned(photos, stages, {RESIZE: DALI, "RandomHorizontalFlip": DALI}, drop_remainder=True)
    dataset = gl.load(plan, epochs=2)
    assert len(dataset) == 4
    batches = collected(dataset)
    assert [images.shape for images, _ in batches] == [(4, 24, 24, 3)] * 4

    def same(found: Any, wanted: Any) -> bool:
        return all((a == b).all() for x, y in zip(found, wanted, strict=True) for a, b in zip(x, y, strict=True))

    assert same(collected(gl.load(plan, epochs=2, start=gl.Position(epoch=0, sample=4))), batches[1:])
    advancing = gl.load(plan)
    assert same(collected(advancing), batches[:2])
    assert same(collected(advancing), batches[2:])  # each iteration is the next epoch
    images, labels = (np.concatenate(parts) for parts in zip(*batches[:2], strict=True))
    assert same(collected(gl.load(plan, epochs=1, shard=gl.Shard(1, 2))), [(images[1::2], labels[1::2])])


@pytest.mark.slow
def test_a_dataset_lives_as_long_as_its_iterators_and_two_run_at_once(photos: Files) -> None:
    plan = planned(photos, (Decode(), RandomHorizontalFlip(), CenterCrop(24)), {"CenterCrop": DALI})
    dataset = gl.load(plan, epochs=1)
    one, other = iter(dataset), iter(dataset)
    del dataset
    gc.collect()
    for (images, labels), (more, others) in zip(one, other, strict=True):
        assert (images.numpy() == more.numpy()).all()
        assert (labels.numpy() == others.numpy()).all()


@pytest.mark.slow
def test_a_dataset_that_is_given_up_is_let_go(photos: Files) -> None:
    others = [found for found in gc.get_objects() if isinstance(found, PlanGraph)]  # kept by other tests
    dataset = gl.load(
        planned(photos, (Decode(), CenterCrop(30), ColorJitter(0.1)), {CROP: DALI, "CenterCrop: pad": DALI})
    )
    next(iter(dataset))
    found = (found for found in gc.get_objects() if isinstance(found, PlanGraph))
    streams = [weakref.ref(one) for one in found if not any(one is other for other in others)]
    del dataset
    gc.collect()
    assert streams
    assert [stream for stream in streams if stream() is not None] == []


@pytest.mark.slow
def test_a_split_where_a_batch_is_dense_gives_the_same_bits(photos: Files) -> None:
    stages = (Decode(), CenterCrop(30), RandomVerticalFlip())
    (one, _), (other, _) = (
        flat(gl.load(planned(photos, stages, placed), epochs=1)) for placed in (TF, {"RandomVerticalFlip": DALI})
    )
    assert (one == other).all()


# what fails


def with_bad(photos: Files, folder: Path, data: bytes) -> Files:
    bad = folder / "bad.jpg"
    bad.write_bytes(data)
    paths = [photos.name(i) for i in range(COUNT)]
    paths[5] = str(bad)
    return Files(paths, photos.labels)


FAILING: dict[str, tuple[str, Placed]] = {
    "decoding on tf": ("broken-huffman-table.jpg", {RESIZE: DALI}),
    "decoding on DALI": ("broken-huffman-table.jpg", {CROP: DALI, RESIZE: DALI}),
    "reading a header for DALI": ("text.jpg", {CROP: DALI, RESIZE: DALI}),
    "decoding on DALI before another": ("truncated-half.jpg", {CROP: DALI, RESIZE: PILLOW}),
    "decoding on Pillow before another": ("truncated-half.jpg", {CROP: PILLOW, RESIZE: DALI}),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long if name.startswith("reading a header") else ()) for name in FAILING],
)
def test_a_bad_file_is_named_wherever_it_fails(
    photos: Files, bad_images: ModuleType, tmp_path: Path, name: str
) -> None:
    bad, placed = FAILING[name]
    usable(*placed.values())
    source = with_bad(photos, tmp_path, bad_images.build()[bad].data)
    try:
        plan = planned(source, (*AUGMENTED, ColorJitter(0.1)), placed)
    except PipelineError:  # Pillow can't decode
        pytest.skip(f"{placed} can't be planned")
    given = 0
    with pytest.raises(RecordError) as caught:
        for _ in gl.load(plan, epochs=1):
            given += 1
    assert given == 5 // SIZE  # what comes before it is given out
    assert caught.value.path == str(tmp_path / "bad.jpg")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_image_too_small_behind_a_crossing_is_named(photos: Files, bad_images: ModuleType, tmp_path: Path) -> None:
    source = with_bad(photos, tmp_path, bad_images.jpeg(20, 60))
    plan = planned(source, (Decode(), RandomVerticalFlip(), RandomCrop(24)), {"RandomCrop": DALI})
    with pytest.raises(RecordError, match="at least 24×24 pixels") as caught:
        collected(gl.load(plan, epochs=1))
    assert caught.value.path == str(tmp_path / "bad.jpg")
    assert "it is 20×60 there" in caught.value.reason


@pytest.mark.slow
def test_bad_files_are_left_out(photos: Files, bad_images: ModuleType, tmp_path: Path) -> None:
    source = with_bad(photos, tmp_path, bad_images.build()["truncated-half.jpg"].data)
    plan = planned(source, (*AUGMENTED, ColorJitter(0.1)), {CROP: DALI, RESIZE: DALI})
    with pytest.warns(UserWarning, match="left out 1 bad of 11 records"):
        dataset = gl.load(plan, epochs=1, on_error="skip")
    assert (flat(dataset)[1] == np.delete(source.labels, 5)).all()


@pytest.mark.slow
def test_the_decoder_is_who_decides_what_is_bad(photos: Files, tmp_path: Path) -> None:
    source = with_bad(photos, tmp_path, e.tiff(e.pixels(40, 50)))
    for placed, decoder in (({CROP: DALI, RESIZE: DALI}, DALI), ({RESIZE: DALI}, TF)):
        plan = planned(source, (*AUGMENTED, ColorJitter(0.1)), placed)
        assert plan.decoder == decoder
    with pytest.raises(RecordError, match=r"bad\.jpg: TIFF is not read by backend 'tf'"):
        collected(gl.load(plan, epochs=1))


def test_a_backend_that_can_not_run_here_is_named(photos: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(photos, AUGMENTED, {RESIZE: DALI})
    gone = Availability(DALI, False, "it isn't there", "install it")
    monkeypatch.setattr("greenload.backends.dali.backend.DaliBackend.availability", lambda _: gone)
    with pytest.raises(BackendUnavailable, match="backend 'dali-cpu': it isn't there; install it"):
        gl.load(plan, epochs=1)


# what is planned, and refused


def test_a_plan_shows_what_crosses(photos: Files) -> None:
    plan = planned(photos, (*AUGMENTED, ColorJitter(0.1)), {CROP: DALI, RESIZE: DALI})
    assert [(c.source, c.target) for c in plan.crossings] == [(TF, DALI), (DALI, TF)]
    text = plan.describe()
    assert "crosses tf → dali-cpu: encoded bytes" in text
    assert "crosses dali-cpu → tf: uint8 24×24×3 HWC, 1.7 kB an image" in text
    assert "Batch + transfer" in text
    described = plan.to_dict()
    assert described["backend"] == "mixed"
    assert [step["backend"] for step in described["steps"]] == [TF, DALI, DALI, TF, TF, DALI]
    assert described["crossings"][1] == {
        "from": DALI,
        "to": TF,
        "images": "uint8 24×24×3 HWC",
        "bytes_per_image": 1728,
    }
    behind = planned(photos, (Decode(), Resize((9, 9)), Batch(SIZE), *VALUES), {"ToDtype + Normalize": DALI})
    assert [str(crossing) for crossing in behind.crossings] == [
        "tf → dali-cpu: uint8 ?×9×9×3 NHWC, 243 B an image",
        "dali-cpu → tf: float32 ?×9×9×3 NHWC, 972 B an image",
    ]
    assert planned(photos, AUGMENTED, "tf").crossings == ()


def test_segments_begin_with_the_stage_whose_images_enter(photos: Files) -> None:
    plan = planned(photos, (*AUGMENTED, ColorJitter(0.1)), {RESIZE: DALI, "RandomHorizontalFlip": DALI})
    assert [(s.backend, s.first, s.end) for s in plan.segments] == [(TF, 1, 2), (DALI, 2, 3), (TF, 3, 5)]
    assert [s.batched for s in plan.segments] == [False, True, False]
    for before, after in zip(plan.segments[:-1], plan.segments[1:], strict=True):
        assert before.spec_out == after.spec_in


REFUSED: dict[str, tuple[Any, tuple[Stage, ...], Placed, str]] = {
    "dali to tf": (
        None,
        (*AUGMENTED, Batch(2)),
        {CROP: "dali", RESIZE: "dali"},
        "step 'RandomHorizontalFlip' on backend 'tf' can't follow 'RandomResizedCrop: resize' on 'dali', whose images "
        "stay on the GPU",
    ),
    "sizes differ behind a crossing": (
        None,
        (*AUGMENTED, Batch(2)),
        {CROP: DALI},
        "step 'RandomResizedCrop: resize' on backend 'tf' can't follow 'Decode + crop' on 'dali-cpu': images come back "
        "to tf.data as a batch, whose images have one size, but here they are uint8 ?×?×3 HWC",
    ),
    "sizes differ before the next crossing": (
        None,
        (
            Decode(),
            Resize((9, 9)),
            Apply(kept, shape=(None, None, 3)),
            RandomVerticalFlip(),
            RandomCrop(4, pad_if_needed=True),
            Batch(2),
        ),
        {"Resize": DALI, "RandomVerticalFlip": DALI, "RandomCrop": DALI},
        "tf.data has a batch, whose images have one size, but here they are uint8 ?×?×3 HWC; put both on one backend",
    ),
    "a stage's params would be lost": (
        LEVELS,
        (RandomCrop(24, padding=2), Batch(2)),
        {"RandomCrop: pad": DALI},
        "steps 'RandomCrop: crop' and 'RandomCrop: pad' are of one stage that can't be split between backends 'tf' "
        "and 'dali-cpu'",
    ),
    "no batch": (None, AUGMENTED, {CROP: DALI, RESIZE: DALI}, "the pipeline has no Batch: add Batch(32)"),
    "a cache behind": (
        None,
        (Decode(), Resize((9, 9)), Cache(), RandomHorizontalFlip(), Batch(2)),
        {"Resize": DALI},
        "Cache must stand before 'Resize'",
    ),
    "not supported": (LEVELS, (Apply(kept), Batch(2)), {"Apply": DALI}, "Apply(kept) can't run on backend 'dali-cpu'"),
    "no such step": (LEVELS, (Resize((9, 9)), Batch(2)), {"Crop": DALI}, "one of Resize, not 'Crop'"),
    "no such backend": (
        LEVELS,
        (Resize((9, 9)), Batch(2)),
        {"Resize": "cuda"},
        "backend of 'Resize' must be one of tf, dali-cpu, dali, pillow, native, not 'cuda'",
    ),
    "one step, two backends": (
        None,
        (*AUGMENTED, Batch(2)),
        {"Decode": DALI, "RandomResizedCrop": "dali"},
        "Decode and RandomResizedCrop are one step here, which can't be on dali-cpu and dali: place 'Decode + crop'",
    ),
    "not a step on pixels": (LEVELS, (Resize((9, 9)), Batch(2)), {"Batch": DALI}, "one of Resize, not 'Batch'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_mixed_is_refused(photos: Files, name: str) -> None:
    source, stages, placed, says = REFUSED[name]
    with pytest.raises(PipelineError) as caught:
        make_plan(gl.Pipeline(source or photos, *stages, seed=SEED), placed)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# any placement

CHAINS: tuple[tuple[Stage, ...], ...] = (
    (RandomResizedCrop(12), RandomHorizontalFlip(), ColorJitter(0.2, 0.2, 0.2), *VALUES),
    (RandomVerticalFlip(), RandomCrop(20, padding=3, fill=9), Resize((14, 17)), RandomErasing(0.7), ToDtype("float16")),
    (Resize((20, 26)), GaussianBlur(3), CenterCrop((24, 18)), Batch(COUNT), RandomGrayscale(0.5), *VALUES),
    (RandomHorizontalFlip(), Apply(kept), RandomResizedCrop(9, antialias=False), Pad(1), Batch(COUNT), *VALUES),
)


@pytest.mark.slow
@given(data=st.data(), stages=st.sampled_from(CHAINS))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_placement_is_refused_or_keeps_to_the_references(data: st.DataObject, stages: tuple[Stage, ...]) -> None:
    names = [name for name in (TF, DALI, PILLOW) if registry.get(name).availability().usable]
    pipeline = suite.pipeline_of(LEVELS, stages)
    steps = [step for step in steps_of(pipeline) if step.kind == "pixels"]
    placed = {step.name: data.draw(st.sampled_from(names)) for step in steps}
    try:
        plan = make_plan(pipeline, placed, threads=1)
    except PipelineError as error:
        assert "can't" in str(error)
        return
    records = suite.records_of(pipeline, list(LEVELS.images))
    found = suite.Difference.of(
        run_plan(plan, records), suite.reference(pipeline, list(LEVELS.images), records.numbers)
    )
    assert found.within(suite.held(plan)), f"{plan}\n{found} is beyond {suite.held(plan)}"
