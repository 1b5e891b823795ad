"""The built-in proxy: real trainings of its model on small images, and what it refuses."""

from __future__ import annotations

import functools
import importlib
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.energy.emulators.powercap import PowercapEmulator
from greenload.energy.meters.process import own_cpu_s
from greenload.errors import BackendUnavailable
from greenload.strategies import proxy as proxy_module
from greenload.strategies import proxy_model
from greenload.strategies.proxy import ProxyRun

CLASSES, SAMPLES, SIDE = 3, 90, 8
slow = pytest.mark.slow


def images(seed: int = 0, samples: int = SAMPLES, noise: float = 60.0) -> gl.Arrays:
    """Grey images of three classes: a bright row whose place is the class, under noise that hides it in part."""
    chance = np.random.default_rng(seed)
    labels = np.arange(samples) % CLASSES
    pixels = chance.normal(100, noise, (samples, SIDE, SIDE, 1))
    pixels[np.arange(samples), 2 * labels + 1] += 100
    return gl.Arrays(np.clip(pixels, 0, 255).astype(np.uint8), labels)


def plain(source: Any = None) -> gl.Pipeline:
    return gl.Pipeline(source or images(), gl.Shuffle(), gl.Batch(32))


def mixed(source: Any = None) -> gl.Pipeline:
    return gl.Pipeline(source or images(), gl.Shuffle(), gl.Batch(32), gl.MixUp(0.4, num_classes=CLASSES))


PROXY = gl.Proxy(epochs=2, batch=24)


class Seen:
    """The models that a proxy built, with their first weights, and what it loaded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.models: list[Any] = []
        self.first: list[Any] = []
        self.loaded: list[tuple[gl.Pipeline, Any, Any]] = []
        build, load = proxy_model.build_model, proxy_module._loaded

        def built(*args: Any, **kwargs: Any) -> Any:
            self.models.append(build(*args, **kwargs))
            self.first.append(self.models[-1].get_weights())
            return self.models[-1]

        def loaded(pipeline: gl.Pipeline, backend: Any, indices: Any) -> Any:
            self.loaded.append((pipeline, indices, load(pipeline, backend, indices)))
            return self.loaded[-1][2]

        monkeypatch.setattr(proxy_model, "build_model", built)
        monkeypatch.setattr(proxy_module, "_loaded", loaded)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


PLAIN, AGAIN, MIXED, OTHER, ONE_HOT = range(5)
"""The trainings of `trained`, by their place."""


@pytest.fixture(scope="module")
def trained() -> tuple[Seen, list[ProxyRun], bool]:
    """Five trainings, of which one has another seed, and whether they left the program's generators alone."""
    importlib.import_module("keras")  # TensorFlow's import draws from Python's generator
    states = random.getstate(), np.random.get_state()[1].copy()
    one_hot = gl.Pipeline(images(), gl.Shuffle(), gl.OneHot(CLASSES), gl.Batch(32))
    with pytest.MonkeyPatch.context() as monkeypatch:
        seen = Seen(monkeypatch)
        runs = [
            PROXY.run(pipeline, seed)
            for pipeline, seed in ((plain(), 5), (plain(), 5), (mixed(), 5), (plain(), 6), (one_hot, 5))
        ]
    return seen, runs, random.getstate() == states[0] and np.array_equal(np.random.get_state()[1], states[1])


Trained = tuple[Seen, list[ProxyRun], bool]


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@slow
def test_a_seed_gives_the_same_training_again(trained: Trained) -> None:
    seen, runs, generators_left_alone = trained
    last = [model.get_weights() for model in seen.models]
    assert same(last[PLAIN], last[AGAIN]) and runs[PLAIN].score == runs[AGAIN].score, "to the bit"
    assert not same(last[PLAIN], last[MIXED]) and not same(last[PLAIN], last[OTHER])
    assert generators_left_alone


@slow
def test_strategies_share_the_chance_of_a_seed(trained: Trained) -> None:
    """First weights, the samples trained on and held out, and the seed of order and draws."""
    seen, _, _ = trained
    assert same(seen.first[PLAIN], seen.first[MIXED]) and not same(seen.first[PLAIN], seen.first[OTHER])
    training, judging = seen.loaded[::2], seen.loaded[1::2]
    for loaded in (training, judging):
        assert np.array_equal(loaded[PLAIN][1], loaded[MIXED][1])
        assert not np.array_equal(loaded[PLAIN][1], loaded[OTHER][1]), "another seed holds out others"
    assert [pipeline.seed for pipeline, _, _ in training] == [5, 5, 5, 6, 5]


@slow
def test_what_is_held_out_is_not_trained_on(trained: Trained) -> None:
    seen, runs, _ = trained
    assert {(run.samples, run.validated) for run in runs} == {(72, 18)}
    source = images()
    number = {source.images[index].tobytes(): index for index in range(SAMPLES)}

    def drawn(dataset: Any) -> list[int]:
        return [number[image.tobytes()] for batch, _ in dataset.as_numpy_iterator() for image in batch]

    _, used, dataset = seen.loaded[2 * PLAIN]
    judging, held_out, judged = seen.loaded[2 * PLAIN + 1]
    _, _, mixing = seen.loaded[2 * MIXED]
    assert drawn(judged) == drawn(seen.loaded[2 * MIXED + 1][2]) == held_out.tolist(), "MixUp mixes none of these"
    assert isinstance(judging.stages[-1], gl.Batch) and len(judging.stages) == 1
    epochs = [drawn(dataset) for _ in range(2)]  # the dataset that it trained on goes on with later epochs
    assert sorted(epochs[0]) == sorted(epochs[1]) == used.tolist() and epochs[0] != epochs[1]
    assert not set(epochs[0]) & set(held_out)
    assert any(image.tobytes() not in number for batch, _ in mixing.as_numpy_iterator() for image in batch)


@slow
def test_labels_may_be_classes_or_a_number_for_each(trained: Trained) -> None:
    seen, runs, _ = trained
    kinds = [type(seen.models[number].loss).__name__ for number in (PLAIN, MIXED, ONE_HOT)]
    assert kinds == ["SparseCategoricalCrossentropy", "CategoricalCrossentropy", "CategoricalCrossentropy"]
    weights = (seen.models[number].get_weights() for number in (PLAIN, ONE_HOT))
    close = [np.allclose(a, b, atol=1e-4) for a, b in zip(*weights, strict=True)]
    assert all(close), "the same training, whichever way the same labels are written"
    assert runs[PLAIN].score == runs[ONE_HOT].score


@slow
@pytest.mark.parametrize("training", [plain, mixed])
def test_a_validation_is_what_the_score_is_of(training: Any, seen: Seen) -> None:
    """The model's own answers, counted by hand, for each form of labels on both sides."""
    form = (gl.OneHot(CLASSES),) if training is plain else ()
    validation = gl.Pipeline(images(7, 50), *form, gl.Batch(7))
    run = gl.Proxy(validation, epochs=1, batch=16).run(training(), 3)
    answers = np.asarray(seen.models[0](images(7, 50).images, training=False)).argmax(axis=1)
    assert run.score == np.sum(answers == images(7, 50).labels) / 50
    assert run.validated == 50 and run.samples == 80, "all are trained on then"


@slow
def test_it_learns_what_can_be_learnt_and_nothing_else() -> None:
    """Well above chance on images that show their class; at chance where labels say nothing."""
    source = images(samples=240, noise=40.0)
    proxy = gl.Proxy(epochs=10, batch=24)
    learnt = proxy.run(plain(source), 0)
    assert learnt.score >= 0.9
    shuffled = gl.Arrays(source.images, np.random.default_rng(3).permutation(source.labels))
    # Of 48 images, 16 are right by chance, with a standard deviation of 3.3.
    assert abs(proxy.run(plain(shuffled), 0).score * 48 - 16) < 4 * 3.3


@pytest.fixture
def emulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PowercapEmulator]:
    monkeypatch.setattr("greenload.energy.meters.process.machine_cpu_s", own_cpu_s)
    with PowercapEmulator(tmp_path / "powercap") as machine:
        callback = functools.partial(gl.EnergyCallback, powercap_root=machine.root)
        monkeypatch.setattr(proxy_module, "EnergyCallback", callback)
        yield machine


@slow
@pytest.mark.alone
def test_loader_and_model_stand_side_by_side(emulated: PowercapEmulator) -> None:
    augmented = gl.Pipeline(images(samples=600), gl.Shuffle(), gl.RandomAffine(20, shear=10), gl.Batch(32))
    run = PROXY.run(augmented, 0)
    spent = run.fit.fit
    end_ns = spent.start_ns + round(spent.wall_s * 1e9)
    for domain in ("cpu:package-0", "dram:package-0"):
        joules = run.energy_j[domain]
        assert joules == pytest.approx(float(emulated.true_between(spent.start_ns, end_ns, domain, None)), rel=0.02)
        loader_j, model_j = run.loader_energy_j[domain], run.model_energy_j[domain]
        idle_j = sum(part.energy_j[domain].value or 0.0 for part in (spent.idle, spent.waiting, spent.others))
        assert loader_j > 0 and loader_j + model_j + idle_j == pytest.approx(joules, rel=1e-6)
    assert run.loader_cpu_s is not None and run.model_cpu_s is not None
    assert 0 < run.loader_cpu_s < run.model_cpu_s and run.loader_cpu_s + run.model_cpu_s == pytest.approx(run.cpu_s)
    assert "RandomAffine" in str(run.fit) and run.seconds == spent.wall_s


@slow
def test_without_counters_or_clocks_figures_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unbuilt(dataset: Any) -> Any:
        raise BackendUnavailable("the native library isn't built")

    monkeypatch.setattr(proxy_module, "watch", unbuilt)
    monkeypatch.setattr(
        proxy_module, "EnergyCallback", functools.partial(gl.EnergyCallback, powercap_root=Path("/nowhere"))
    )
    run: ProxyRun = PROXY.run(plain(), 0)
    assert (run.loader_cpu_s, run.model_cpu_s, run.loader_energy_j) == (None, None, {})
    assert not any(domain.startswith(("cpu", "dram")) for domain in run.energy_j), "a model's joules are no counter's"
    assert run.cpu_s > 0 and run.seconds > 0


@slow
def test_images_above_the_size_are_shrunk_and_floats_are_taken_as_they_are() -> None:
    built = functools.partial(proxy_model.build_model, classes=2, seed=0, steps=4, batch=2, soft=False)
    large = built((64, 20, 3), "uint8", size=32)
    assert [layer.output.shape[1:3] for layer in large.layers if "resizing" in layer.name] == [(32, 20)]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    small = [built((16, 16, 3), dtype, size=size) for dtype, size in (("uint8", 32), ("float32", None))]
    assert not any("resizing" in layer.name for model in small for layer in model.layers)
    answers = [
        np.asarray(model(given, training=False))
        for model, given in zip(small, (pixels, pixels.astype(np.float32) / 127.5 - 1), strict=True)
    ]
    assert np.allclose(*answers, atol=1e-4)
    half = built((16, 16, 3), "float16", size=32)
    close = np.asarray(half((pixels / 127.5 - 1).astype(np.float16), training=False))
    assert np.allclose(close, answers[0], atol=2e-2)


@slow
def test_the_recipe_is_the_one_that_is_stated() -> None:
    model = proxy_model.build_model((32, 32, 3), "uint8", 10, size=32, seed=0, steps=200, batch=64, soft=False)
    assert round(model.count_params(), -3) == 79_000
    convolutions = [layer for layer in model.layers if layer.__class__.__name__ in ("Conv2D", "Dense")]
    products = sum(
        math.prod(layer.kernel.shape) * (math.prod(layer.output.shape[1:3]) if layer.output.shape[3:] else 1)
        for layer in convolutions
    )
    assert products == pytest.approx(12.5e6, rel=0.01)
    rates = [float(model.optimizer._learning_rate(step)) for step in range(201)]
    assert rates[0] == 0 and rates[200] == pytest.approx(0, abs=1e-9)
    assert int(np.argmax(rates)) == 10 and max(rates) == pytest.approx(0.1 * 64 / 128)
    assert rates[5] == pytest.approx(max(rates) / 2) and rates[105] == pytest.approx(max(rates) / 2)
    decayed = {variable.name for variable in model.trainable_variables if model.optimizer._use_weight_decay(variable)}
    assert decayed == {"kernel"}


@slow
def test_a_dataset_can_be_judged_by_a_given_validation(seen: Seen) -> None:
    proxy = gl.Proxy(gl.Pipeline(images(7, 50), gl.Batch(7)), epochs=2, batch=30)
    score = proxy(gl.load(mixed(), backend="tf"), 3)
    answers = np.asarray(seen.models[0](images(7, 50).images, training=False)).argmax(axis=1)
    assert score == np.sum(answers == images(7, 50).labels) / 50
    assert 0 <= proxy(gl.load(plain(), backend="tf"), 3) <= 1
    assert same(seen.first[0], seen.first[1]), "whatever the dataset, the first weights are the seed's"
    endless = gl.load(plain(), backend="tf").repeat()
    for wrong, said in ((endless, "length must be known"), (gl.load(plain()).unbatch(), "batches of"), (3, "int")):
        with pytest.raises(gl.UsageError, match=said):
            proxy(wrong, 3)
    with pytest.raises(gl.PipelineError, match=r"float32 8×8×1, but the validation's are uint8"):
        proxy(gl.load(plain()).map(lambda image, label: (image / 255, label)), 3)
    with pytest.raises(gl.UsageError, match="validation must be given"):
        gl.Proxy()(gl.load(plain()), 3)


GREY = np.zeros((20, 8, 8, 1), np.uint8)
LABELS = np.arange(20) % 2


def of(labels: Any, *stages: gl.Stage, pixels: Any = GREY) -> gl.Pipeline:
    return gl.Pipeline(gl.Arrays(pixels, labels), *stages)


@pytest.mark.parametrize(
    ("pipeline", "validation", "error", "said"),
    [
        (of(LABELS - 1), None, gl.SourceError, "numbered from 0, but .* the label -1"),
        (of(LABELS + 1900), None, gl.SourceError, "the label 1901 among 20 samples: number them"),
        (of(LABELS * 0), None, gl.SourceError, "two classes or more, but all 20 labels .* are 0"),
        (of(LABELS, pixels=GREY.astype(np.int8)), None, gl.PipelineError, "uint8 or float images, but here .* int8"),
        (of(LABELS), of(LABELS * 2), gl.SourceError, "has class 2, and .* has not"),
        (of(LABELS), of(LABELS, pixels=GREY[:, :6]), gl.PipelineError, "8×8×1, but the validation's are uint8 6×8×1"),
        (of(LABELS), of(LABELS, gl.ToDtype("float32")), gl.PipelineError, "the validation's are float32"),
        (of(LABELS), of(LABELS, gl.RandomRotation(5)), gl.PipelineError, "has RandomRotation.* which draws"),
        (of(LABELS, gl.OneHot(1)), None, gl.RecordError, "must be in 0 … 0 for OneHot"),
        (gl.Pipeline(gl.Files(["a.jpg", "b.jpg"], [0, 1])), None, gl.SourceError, "none is held out"),
        ("train", None, gl.PipelineError, "trains on a Pipeline, not str 'train'"),
    ],
)
def test_what_it_cannot_train_on_is_named(pipeline: Any, validation: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said) as raised:
        gl.Proxy(validation).run(pipeline, 0)
    assert "\n" not in str(raised.value)


def test_encoded_images_are_refused() -> None:
    files = gl.Files([f"{number}.jpg" for number in range(20)], LABELS)
    with pytest.raises(gl.PipelineError, match="Decode"):
        gl.Proxy().run(gl.Pipeline(files), 0)


def test_classes_of_other_names_are_refused(tmp_path: Path, sample_folder: Path) -> None:
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for folder in sample_folder.iterdir():
        if folder.is_dir():
            (renamed / f"not-{folder.name}").symlink_to(folder)
    stages = (gl.Decode(), gl.Resize((8, 8)))
    validation = gl.Pipeline(gl.ImageFolder(renamed), *stages)
    with pytest.raises(gl.SourceError, match=r"'class-0', .* 'not-class-0', .*pass the same classes"):
        gl.Proxy(validation).run(gl.Pipeline(gl.ImageFolder(sample_folder), *stages), 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"validation": 0.2}, "validation must be a Pipeline or None, not float"),
        ({"samples": 0}, "samples must be a positive integer or None, not 0"),
        ({"size": 4}, "size must be 8 or more"),
        ({"epochs": None}, "epochs must be a positive integer, not None"),
        ({"batch": 2.5}, "batch must be a positive integer, not 2.5"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(gl.UsageError, match=said):
        gl.Proxy(**arguments)


def test_a_seed_is_an_integer() -> None:
    with pytest.raises(gl.UsageError, match=r"seed must be an integer, not 0\.5"):
        PROXY.run(plain(), 0.5)  # type: ignore[arg-type]


def test_what_it_is_can_be_written_down() -> None:
    proxy = gl.Proxy(plain(), samples=np.int64(50), size=None)
    assert proxy == gl.Proxy(plain(), samples=50, size=None)
    described = proxy.to_dict()
    assert described["validation"] == plain().to_dict() and described["proxy"] == "resnet-8/1"
    assert {described[name] for name in ("samples", "size", "epochs", "batch")} == {50, None, 20, 64}
    assert gl.Proxy().to_dict() != gl.Proxy(epochs=21).to_dict()
