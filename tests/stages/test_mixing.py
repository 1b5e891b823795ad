"""MixUp and CutMix: images by the published formulas, soft labels that fit them, draws of a batch, and what is refused.

In most tests each sample has a class of its own, so that labels tell who was mixed with whom, and by how much.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenload as gl
from greenload.array_ops import TENSORFLOW
from greenload.backends import registry
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan
from greenload.randomness import beta
from greenload.specs import ImageSpec, LabelSpec
from greenload.stages.base import Params

COUNT = 11
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 9, 7, 3), np.uint8)
SOURCE = gl.Arrays(IMAGES, np.arange(COUNT))
FLAT = gl.Arrays(np.tile(np.arange(COUNT, dtype=np.uint8)[:, None, None, None], (1, 40, 30, 3)), np.arange(COUNT))
"""Image ``i`` has the value ``i`` everywhere, so that pixels tell whose they are."""
CHOICE = gl.RandomChoice([gl.MixUp(0.4, num_classes=COUNT), gl.CutMix(num_classes=COUNT)], [1, 3])
STAGES = (gl.MixUp(num_classes=COUNT), gl.CutMix(num_classes=COUNT), CHOICE)

Batches = list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]


def usable(name: str) -> None:
    found = registry.get(name).availability()
    if not found.usable:
        pytest.skip(f"{name}: {found.detail}; {found.remedy}")


def iterated(pipeline: gl.Pipeline | Plan, backend: str = "native", **options: Any) -> Batches:
    """A pipeline's batches without tf.data."""
    usable(backend)
    return list(gl.iterate(pipeline, backend=backend, **options))


def loaded(pipeline: gl.Pipeline | Plan, backend: str, **options: Any) -> Batches:
    """A pipeline's batches out of tf.data."""
    pytest.importorskip("tensorflow")
    return list(gl.load(pipeline, backend, **({"epochs": 1, "threads": 2} | options)).as_numpy_iterator())


def same(first: Batches, second: Batches) -> bool:
    """Whether batches have the same bits."""
    pairs = zip(first, second, strict=True)
    return all(a.tobytes() == c.tobytes() and b.tobytes() == d.tobytes() for (a, b), (c, d) in pairs)


def params_of(stage: gl.Stage, count: int = 4, epoch: int = 0, seed: int = 0, side: tuple[int, int] = (40, 30)) -> Any:
    """A stage's params for a batch of the first samples."""
    layout = DrawLayout.of(gl.Pipeline(FLAT, gl.Batch(count), stage, seed=seed))
    numbers = layout.prepare(seed, epoch, np.arange(count))
    return stage.params(numbers, np.full(count, side[0]), np.full(count, side[1]))


# what is made of a batch


@pytest.mark.parametrize("size", [2, 3, COUNT])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("order", [(), (gl.Shuffle(),)], ids=["in order", "shuffled"])
def test_mixed_images_are_the_formulas(size: int, dtype: str, order: tuple[gl.Stage, ...]) -> None:
    plain = iterated(gl.Pipeline(SOURCE, *order, gl.Batch(size), seed=5))
    pipeline = gl.Pipeline(SOURCE, *order, gl.ToDtype(dtype), gl.Batch(size), gl.MixUp(num_classes=COUNT), seed=5)
    weights = []
    for (images, labels), (_, index) in zip(iterated(pipeline), plain, strict=True):
        own = IMAGES[index].astype(np.float64)
        others = np.roll(own, 1, axis=0)
        weight = labels[0, index[0]].astype(np.float64)
        wanted = weight * own + (1 - weight) * others
        assert images.dtype == dtype
        if dtype == "uint8":
            assert (images == np.floor(wanted + 0.5)).all()
        else:
            np.testing.assert_allclose(images, wanted, atol=255 * 2.4e-7)
        assert labels.dtype == np.float32 and labels.shape == (len(images), COUNT)
        codes = np.eye(COUNT)[index]
        assert (labels == weight * codes + (1 - weight) * np.roll(codes, 1, axis=0)).all()
        weights += [weight] if len(images) > 1 else []
    assert len(set(weights)) == len(weights) and all(0 < weight < 1 for weight in weights)


@pytest.mark.parametrize("size", [(40, 30), (3, 30), (40, 2)], ids=str)
def test_labels_weigh_what_is_seen_of_each_image(size: tuple[int, int]) -> None:
    seen = set()
    for epoch in range(12):
        pipeline = gl.Pipeline(FLAT, gl.CenterCrop(size), gl.Batch(4), gl.CutMix(num_classes=COUNT), seed=1)
        for number, (images, labels) in enumerate(iterated(pipeline, epochs=epoch + 1, start=gl.Position(epoch))):
            index = np.arange(4 * number, 4 * number + len(images))
            others = np.roll(index, 1)
            for image, label, own, other in zip(images, labels, index, others, strict=True):
                of_other = (image == other).all(axis=-1)
                assert ((image == own).all(axis=-1) | of_other).all()
                rows, columns = np.flatnonzero(of_other.any(axis=1)), np.flatnonzero(of_other.any(axis=0))
                assert of_other.sum() == len(rows) * len(columns)  # a box
                assert label[own] == np.float32(1 - of_other.mean())
                assert label[other] == pytest.approx(of_other.mean(), abs=1e-7)
                assert label.sum() == pytest.approx(1.0, abs=1e-7)
                seen.add((len(rows), len(columns)))
    assert len(seen) > 15 or min(size) < 4  # there the box may have no column


@given(st.integers(1, 70), st.integers(1, 300), st.integers(1, 300), st.floats(1e-3, 50), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_boxes_lie_inside_and_are_what_the_definition_says(
    count: int, height: int, width: int, alpha: float, seed: int
) -> None:
    stage = gl.CutMix(alpha, num_classes=2)
    uniforms = np.random.default_rng(seed).random((count, 3))
    params = stage.params(uniforms, np.full(count, height), np.full(count, width))
    assert (params["box"] == params["box"][0]).all() and (params["weight"] == 1).all()
    top, left, rows, columns = params["box"][0].tolist()
    half = 0.5 * np.sqrt(1 - beta(uniforms[:1, 0], alpha)[0])
    y, x = int(uniforms[0, 1] * height), int(uniforms[0, 2] * width)
    down = (max(y - int(half * height), 0), min(y + int(half * height), height))
    across = (max(x - int(half * width), 0), min(x + int(half * width), width))
    if count == 1 or down[0] == down[1] or across[0] == across[1]:
        assert (top, left, rows, columns) == (0, 0, 0, 0)
    else:
        assert (top, top + rows) == down and (left, left + columns) == across
    assert params["share"] == pytest.approx(1 - rows * columns / (height * width), abs=1e-12)


@pytest.mark.parametrize("stage", STAGES, ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_a_batch_of_one_image_is_left_as_it_is(stage: gl.Stage, dtype: str) -> None:
    scaled = gl.ToDtype(dtype, scale=True)
    whole = iterated(gl.Pipeline(SOURCE, scaled, gl.Batch(5), stage))
    plain = iterated(gl.Pipeline(SOURCE, scaled, gl.Batch(5)))
    assert len(whole[-1][0]) == 1
    assert (whole[-1][0] == plain[-1][0]).all() and (whole[-1][1] == np.eye(COUNT)[-1:]).all()
    assert not (whole[0][0] == plain[0][0]).all()
    singles = iterated(gl.Pipeline(SOURCE, scaled, gl.Batch(1), stage))
    assert (np.concatenate([images for images, _ in singles]) == np.concatenate([images for images, _ in plain])).all()


def test_soft_labels_are_mixed_again() -> None:
    stages = (gl.OneHot(COUNT, "uint8"), gl.Batch(4), gl.MixUp(), gl.CutMix())
    (_, labels), *_ = iterated(gl.Pipeline(SOURCE, *stages, seed=2))
    assert labels.dtype == np.float32
    assert ((labels > 0).sum(axis=1) == 3).all()
    np.testing.assert_allclose(labels.sum(axis=1), 1.0, atol=1e-6)


# what is drawn


@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_a_batch_is_drawn_by_its_first_sample(stage: gl.Stage) -> None:
    four, eight = params_of(stage, 4), params_of(stage, 8)
    for name in ("weight", "share", "box"):
        assert (four[name] == four[name][0]).all()
        assert (four[name][0] == eight[name][0]).all()
    assert four["partner"].tolist() == [3, 0, 1, 2]
    others = [params_of(stage, epoch=1), params_of(stage, seed=1)]
    assert all(four["share"][0] != other["share"][0] for other in others)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_every_way_to_the_batches_gives_the_same_bits(stage: gl.Stage) -> None:
    pipeline = gl.Pipeline(SOURCE, gl.Shuffle(), gl.RandomHorizontalFlip(), gl.Batch(3), stage, seed=4)
    whole = iterated(pipeline, threads=1, epochs=2)
    assert same(whole, iterated(pipeline, threads=3, epochs=2, prefetch=4))
    assert same(whole[2:], iterated(pipeline, epochs=2, start=gl.Position(0, 6)))
    for backend in ("native", "tf"):
        assert same(whole, loaded(pipeline, backend, epochs=2)), backend
        assert same(whole[2:], loaded(pipeline, backend, epochs=2, threads=3, start=gl.Position(0, 6))), backend
    assert not same(whole[:4], whole[4:])
    if not registry.get("pillow").availability().usable:
        return
    mixed = gl.make_plan(pipeline, {"RandomHorizontalFlip": "pillow", pipeline.stages[-1].title: "native"}, threads=2)
    assert mixed.backends == ("pillow", "native")
    assert same(whole, list(gl.iterate(mixed, epochs=2)))
    assert same(whole, loaded(mixed, "auto", epochs=2))


@pytest.mark.slow
def test_files_are_mixed_alike_in_the_graph_and_without_it(sample_folder: Path) -> None:
    source = gl.ImageFolder(sample_folder)
    stages = (gl.Decode(), gl.CenterCrop(48), gl.Batch(10), gl.CutMix(num_classes=len(source.classes)), gl.MixUp())
    pipeline = gl.Pipeline(source, gl.Shuffle(), *stages, gl.ToDtype("float32", scale=True), seed=6)
    plan = gl.make_plan(pipeline, "native", threads=2)
    assert [len(segment.steps) for segment in plan.segments] == [2, 1, 2]
    whole = iterated(pipeline)
    assert same(whole, loaded(plan, "native"))
    assert same(whole, loaded(pipeline, "tf"))


@pytest.mark.slow
def test_without_the_graph_tensorflow_is_not_imported() -> None:
    usable("native")
    code = (
        "import sys; import greenload as gl; import numpy as np\n"
        "source = gl.Arrays(np.zeros((4, 8, 8, 3), np.uint8), [0, 1, 2, 0])\n"
        "mixed = gl.RandomChoice([gl.MixUp(num_classes=3), gl.CutMix(num_classes=3)])\n"
        "for images, labels in gl.iterate(gl.Pipeline(source, gl.Batch(3), mixed)):\n"
        "    print(images.shape, labels.shape)\n"
        "assert 'tensorflow' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["(3, 8, 8, 3) (3, 3)", "(1, 8, 8, 3) (1, 3)"]


def test_the_graph_calls_no_python() -> None:
    tf = pytest.importorskip("tensorflow")
    usable("native")
    stages = (gl.RandomHorizontalFlip(), gl.Batch(4), CHOICE, gl.RandomErasing(0.5))
    dataset = gl.load(gl.Pipeline(SOURCE, *stages), "native", epochs=1)
    graph = tf.compat.v1.GraphDef.FromString(dataset._as_serialized_graph().numpy())
    operations = [node.op for function in graph.library.function for node in function.node_def]
    assert operations.count("GreenloadRun") == 2
    assert not any("PyFunc" in name for name in operations)


def test_what_stands_before_it_is_counted_apart() -> None:
    pytest.importorskip("tensorflow")
    usable("native")
    stages = (gl.RandomInvert(1.0), gl.Batch(4), gl.MixUp(num_classes=COUNT), gl.ToDtype("float32"))
    dataset = gl.load(gl.Pipeline(SOURCE, *stages), "native", epochs=1).greenload_loaded.clocked()
    assert len(list(dataset)) == 3
    calls = {clock.name: clock.read().calls for clock in dataset.greenload_loaded.step_clocks}
    assert {name: calls[name] for name in ("RandomInvert", "MixUp", "ToDtype")} == {
        "RandomInvert": COUNT,
        "MixUp": COUNT,
        "ToDtype": COUNT,
    }


@pytest.mark.parametrize("p", [None, [1, 3], [0, 1]])
def test_one_of_several_is_drawn_for_each_batch(p: Any) -> None:
    stage = gl.RandomChoice(CHOICE.stages, p)
    batches = [params_of(stage, epoch=epoch) for epoch in range(400)]
    cut = [(params["weight"] == 1).all() for params in batches]
    share = 0.5 if p is None else p[1] / sum(p)
    assert np.mean(cut) == pytest.approx(share, abs=3.5 * np.sqrt(share * (1 - share) / 400))
    for params, is_cut in zip(batches, cut, strict=True):
        assert is_cut or (params["box"] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_params_have_the_same_bits_in_tensorflow(stage: gl.Stage) -> None:
    tf = pytest.importorskip("tensorflow")
    names = ("partner", "weight", "box", "share")

    @tf.function
    def in_graph(uniforms: Any, height: Any, width: Any) -> Any:
        found = stage.params(uniforms, height, width, TENSORFLOW)
        return [found[name] for name in names]

    random = np.random.default_rng(7)
    for count in (1, 2, 5, 64):
        for _ in range(20):
            numbers = random.random((count, stage.numbers))
            if stage is CHOICE:
                numbers[:, 0] = random.integers(2)
            sides = [np.full(count, side) for side in random.integers(1, 500, 2)]
            own: Params = stage.params(numbers, *sides)
            for name, found in zip(names, in_graph(numbers, *sides), strict=True):
                assert found.numpy().tobytes() == np.asarray(own[name]).tobytes(), name


# what it is for


@pytest.mark.slow
def test_keras_learns_from_mixed_batches() -> None:
    keras = pytest.importorskip("keras")
    labels = np.arange(96) % 3
    random = np.random.default_rng(0)
    images = (random.integers(0, 60, (96, 8, 8, 3)) + 90 * labels[:, None, None, None]).astype(np.uint8)
    mixed = gl.RandomChoice([gl.MixUp(0.4, num_classes=3), gl.CutMix(num_classes=3)])
    source = gl.Arrays(images, labels)
    pipeline = gl.Pipeline(source, gl.Shuffle(), gl.Batch(20), mixed, gl.ToDtype("float32", scale=True), seed=1)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")]
    )
    model.compile(keras.optimizers.Adam(0.3), keras.losses.CategoricalCrossentropy(), metrics=["accuracy"])
    model.fit(gl.load(pipeline, epochs=12), verbose=0, shuffle=False)
    plain = gl.Pipeline(source, gl.OneHot(3), gl.Batch(32), gl.ToDtype("float32", scale=True))
    _, accuracy = model.evaluate(gl.load(plain, epochs=1), verbose=0)
    assert accuracy > 0.9


# what is refused, and how it is written


@pytest.mark.parametrize("kind", [gl.MixUp, gl.CutMix])
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"alpha": 0}, "alpha must be a number from 0.001 to 1000, not 0"),
        ({"alpha": -1.0}, "alpha must be a number from 0.001 to 1000, not -1.0"),
        ({"alpha": float("nan")}, "alpha must be a number from 0.001 to 1000, not nan"),
        ({"alpha": 2e3}, "alpha must be a number from 0.001 to 1000, not 2000.0"),
        ({"alpha": "1"}, "alpha must be a number from 0.001 to 1000, not '1'"),
        ({"num_classes": 0}, "num_classes must be a positive integer or None, not 0"),
        ({"num_classes": 2.5}, "num_classes must be a positive integer or None, not 2.5"),
        ({"num_classes": True}, "num_classes must be a positive integer or None, not True"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(kind: Any, arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(gl.PipelineError) as caught:
        kind(**arguments)
    assert str(caught.value) == f"{kind.__name__}: {why}"


class Labelled(gl.Stage):
    """Makes labels of a spec out of others."""

    def __init__(self, spec: LabelSpec) -> None:
        object.__setattr__(self, "spec", spec)

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        return spec

    def out_label(self, spec: LabelSpec) -> LabelSpec:
        return self.spec  # type: ignore[attr-defined, no-any-return]  # set in __init__


FLOATS, GRIDS = Labelled(LabelSpec((), "float32")), Labelled(LabelSpec((4, 4), "float32"))
BAD_LABELS = (
    ((gl.MixUp(),), "MixUp() mixes one number for each class, but here labels are classes' numbers: pass num_classes"),
    ((gl.RandomChoice([gl.MixUp(), gl.CutMix()]),), "MixUp() mixes one number for each class, but here labels are"),
    ((gl.OneHot(11), gl.CutMix(num_classes=12)), "CutMix(num_classes=12): num_classes must be 11, as labels here are"),
    ((FLOATS, gl.MixUp(num_classes=3)), "mixes labels of classes, but here they are float32 scalar: remove it"),
    ((GRIDS, gl.MixUp()), "mixes one number for each class, but here labels are float32 4×4: remove it"),
    (
        (gl.RandomChoice([gl.MixUp(num_classes=11), gl.CutMix(num_classes=12)]),),
        "what it chooses from must give labels alike, but here they become float32 11 or float32 12: give all the",
    ),
)


@pytest.mark.parametrize(("stages", "why"), BAD_LABELS, ids=range(len(BAD_LABELS)))
def test_labels_that_can_not_be_mixed_are_refused(stages: tuple[gl.Stage, ...], why: str) -> None:
    with pytest.raises(gl.PipelineError) as caught:
        gl.Pipeline(SOURCE, gl.Batch(4), *stages)
    assert why in str(caught.value) and "\n" not in str(caught.value)


NO_CLASSES = (list("abcdefghijk"), np.linspace(0, 1, COUNT), np.eye(COUNT))


@pytest.mark.parametrize("labels", NO_CLASSES, ids=["text", "floats", "one-hot"])
def test_sources_refuse_labels_that_are_no_classes(labels: Any) -> None:
    with pytest.raises(gl.SourceError, match="label"):
        gl.Pipeline(gl.Arrays(IMAGES, labels), gl.Batch(4), gl.MixUp(num_classes=COUNT))


@pytest.mark.parametrize("stage", [gl.CutMix(num_classes=3), gl.RandomChoice([gl.MixUp(num_classes=3)])], ids=str)
def test_a_label_beyond_the_classes_is_named_before_anything_is_loaded(stage: gl.Stage) -> None:
    usable("native")
    with pytest.raises(gl.RecordError, match=r"must be in 0 … 2 for \w+\(num_classes=3\), not 3: pass num_classes"):
        gl.iterate(gl.Pipeline(SOURCE, gl.Batch(4), stage), backend="native")


def test_where_it_can_stand() -> None:
    with pytest.raises(gl.PipelineError, match=r"MixUp\(num_classes=11\) works on batches, but here images are single"):
        gl.Pipeline(SOURCE, gl.MixUp(num_classes=COUNT), gl.Batch(4))
    with pytest.raises(gl.PipelineError, match=r"RandomChoice.* works on batches, but here images are single: put it"):
        gl.Pipeline(SOURCE, CHOICE, gl.Batch(4))
    with pytest.raises(gl.PipelineError, match=r"RandomChoice: MixUp\(\) mixes a batch, and can't be done to some"):
        gl.RandomChoice([gl.MixUp(), gl.RandomVerticalFlip()])
    with pytest.raises(gl.PipelineError, match=r"RandomApply: CutMix\(\) mixes a batch, and can't be done to some"):
        gl.RandomApply(gl.CutMix(), 0.5)
    with pytest.raises(gl.PipelineError, match=r"MixUp\(num_classes=11\) works on pixels, but .*: put Decode\(\)"):
        gl.Pipeline(gl.Files(["a.jpg"]), gl.MixUp(num_classes=COUNT))


@pytest.mark.parametrize("backend", ["pillow", "dali-cpu", "dali"])
@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_backends_that_work_image_by_image_refuse_it_by_name(backend: str, stage: gl.Stage) -> None:
    with pytest.raises(gl.PipelineError, match=rf"can't run on backend '{backend}' to tolerance.*: use backend='tf'"):
        gl.make_plan(gl.Pipeline(SOURCE, gl.Batch(4), stage), backend)


@pytest.mark.parametrize("stage", [*STAGES, gl.MixUp(0.25), gl.RandomChoice([CHOICE.stages[0]], [2.0])], ids=str)
def test_it_is_written_and_read(stage: gl.Stage) -> None:
    pipeline = gl.Pipeline(SOURCE, gl.OneHot(COUNT), gl.Batch(4), stage)
    assert gl.Pipeline.from_dict(json.loads(json.dumps(pipeline.to_dict())), source=SOURCE) == pipeline
    assert "labels: float32 11 (OneHot(num_classes=11), " in gl.make_plan(pipeline, "native").describe()
