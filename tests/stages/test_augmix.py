"""AugMix against its published definition: ranges, chains, weights, the mixture itself, and what is refused."""

from __future__ import annotations

import itertools
from itertools import pairwise
from typing import Any

import conformance as suite
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenload as gl
from greenload.array_ops import NUMPY
from greenload.backends import registry
from greenload.backends.native import library
from greenload.backends.native.abi import Op
from greenload.backends.native.layout import Layout
from greenload.backends.native.table import TABLE
from greenload.errors import PipelineError
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.sources import Arrays
from greenload.specs import ImageSpec
from greenload.stages import AugMix, Stage
from greenload.stages.operations import OPERATIONS, SIGNED, Turn
from greenload.stages.primitives import Choice, WeightedSum

Pixels = np.ndarray[Any, Any]
SPEC = ImageSpec((48, 64, 3), "uint8", "HWC")
AFFINE = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
PARTIAL = (*AFFINE, "Posterize", "Solarize", "AutoContrast", "Equalize")
ALL = (*PARTIAL, "Brightness", "Color", "Contrast", "Sharpness")


def grid(stage: Stage, count: int = 20_000) -> Pixels:
    return np.random.default_rng(7).random((count, stage.draws))


def chains(stage: AugMix, numbers: Pixels) -> Pixels:
    """Of each image the operations of each chain and their values, ``[n, chains, operations, 2]``."""
    rest = numbers[:, 1 + stage.mixture_width :]
    return rest.reshape(len(numbers), stage.mixture_width, -1, 2)


def by_name(stage: AugMix, numbers: Pixels, name: str) -> Pixels:
    """The values of all operations of a name."""
    operations = chains(stage, numbers)
    values: Pixels = operations[operations[..., 0] == ("Identity", *stage_names(stage)).index(name)][:, 1]
    return values


def stage_names(stage: AugMix) -> tuple[str, ...]:
    return ALL if stage.all_ops else PARTIAL


def params_at(stage: AugMix, uniforms: Pixels, height: int = 48, width: int = 64) -> list[dict[str, Any]]:
    """The params of each image by itself."""
    count = len(uniforms)
    params = stage.params(stage.prepare(uniforms), np.full(count, height), np.full(count, width))
    return [{name: values[row] for name, values in params.items()} for row in range(count)]


# The published definition


RANGES = {
    **dict.fromkeys(("ShearX", "ShearY"), np.linspace(0, 0.3, 10)),
    **dict.fromkeys(("TranslateX", "TranslateY"), np.linspace(0, 1 / 3, 10)),
    "Rotate": np.linspace(0, 30, 10),
    **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), np.linspace(0, 0.9, 10)),
    "Posterize": np.array([4, 4, 3, 3, 2, 2, 1, 1, 1, 1]),
    "Solarize": np.linspace(255, 0, 10),
    **dict.fromkeys(("AutoContrast", "Equalize"), np.zeros(10)),
}
"""torchvision.transforms.v2.AugMix, ``_AUGMENTATION_SPACE`` at ten bins, but for the images of no bits."""


@pytest.mark.parametrize("severity", [1, 3, 10])
def test_magnitudes_are_the_first_of_torchvisions_ten(severity: int) -> None:
    assert set(RANGES) == set(ALL)
    stage = AugMix(severity)
    numbers = stage.prepare(grid(stage))
    for name, values in RANGES.items():
        found = by_name(stage, numbers, name)
        expected = values[:severity]
        assert np.allclose(np.unique(np.round(np.abs(found), 9)), np.unique(np.round(expected, 9))), name
        if name in SIGNED and severity > 1:
            found = found[found != 0]
            assert abs((found < 0).mean() - 0.5) < 5 * 0.5 / np.sqrt(len(found)), name
        else:
            assert (found >= 0).all()


def test_magnitudes_are_drawn_alike() -> None:
    stage = AugMix(5)
    found = by_name(stage, stage.prepare(grid(stage)), "Solarize")
    _, counts = np.unique(found, return_counts=True)
    assert len(counts) == 5 and np.all(np.abs(counts - len(found) / 5) < 5 * np.sqrt(len(found) / 5))


@pytest.mark.parametrize("all_ops", [True, False])
def test_operations_are_drawn_alike(all_ops: bool) -> None:
    stage = AugMix(all_ops=all_ops, chain_depth=2)
    operations = chains(stage, stage.prepare(grid(stage)))[..., 0].astype(int)
    counts = np.bincount(operations.ravel(), minlength=1 + len(stage_names(stage)))
    expected = operations.size / len(stage_names(stage))
    assert counts[0] == 0 and len(counts) == 1 + len(stage_names(stage))
    assert np.all(np.abs(counts[1:] - expected) < 5 * np.sqrt(expected))


def test_chains_have_one_to_three_operations_or_as_many_as_said() -> None:
    stage = AugMix()
    operations = chains(stage, stage.prepare(grid(stage)))[..., 0]
    lengths = (operations > 0).sum(-1)
    assert (np.diff((operations > 0).astype(int)) <= 0).all(), "an operation behind a chain's end"
    for chain in range(3):
        shares = np.bincount(lengths[:, chain], minlength=4) / len(lengths)
        assert np.allclose(shares, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.02)
    for depth in (1, 4):
        stage = AugMix(chain_depth=depth)
        assert (chains(stage, stage.prepare(grid(stage, 500)))[..., 0] > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "width"), [(1.0, 3), (0.3, 2), (4.0, 5)])
def test_weights_are_those_of_beta_and_dirichlet(alpha: float, width: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    stage = AugMix(mixture_width=width, alpha=alpha)
    weights = stage.prepare(grid(stage))[:, : 1 + width]
    mixed = weights[:, 0] < 0.9  # of little that is left, shares are coarse
    shares = weights[mixed, 1:] / (1 - weights[mixed, :1])
    drawn = [weights[:, 0], *shares.T]
    others = [alpha, *[alpha * (width - 1)] * width]
    for values, other in zip(drawn, others, strict=True):
        places = np.linspace(0.02, 0.98, 25)
        expected = stats.beta.cdf(places + 0.5 / 4096, alpha, other)
        found = (values[:, None] <= places).mean(0)
        assert np.abs(found - expected).max() < 5 * 0.5 / np.sqrt(len(values)), (alpha, width, other)
    # two chains' weights fall together as Dirichlet's do
    total = alpha * width
    covariance = -(alpha**2) / (total**2 * (total + 1))
    assert np.cov(shares[:, 0], shares[:, -1])[0, 1] == pytest.approx(covariance, abs=0.005)


@pytest.mark.slow
@given(uniform=st.lists(st.sampled_from([0.0, 2.0**-53, 0.25, 0.5, 1.0 - 2.0**-53]), min_size=4, max_size=4))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_weights_sum_to_one_to_the_bit(uniform: list[float]) -> None:
    for stage in (AugMix(), AugMix(mixture_width=7, alpha=0.01), AugMix(mixture_width=1, alpha=900)):
        uniforms = np.resize(np.array(uniform), (1, stage.draws))
        (params,) = params_at(stage, uniforms)
        weights = params["weights"]
        assert ((weights >= 0) & (weights * 2**16 == np.rint(weights * 2**16))).all()
        assert sum(int(weight * 2**16) for weight in weights) == 2**16
        assert [int(choice) for choice in params["choices"]] == [
            k if weight > 0 else -1 for k, weight in enumerate(weights[1:])
        ]


@pytest.mark.slow
def test_the_mixture_is_the_weighted_sum_of_chains_on_the_image() -> None:
    stage = AugMix(10)
    image = suite.pixels(48, 64, "photo")
    height, width = (np.array([side]) for side in image.shape[:2])
    for uniforms, params in zip(grid(stage, 40)[:, None], params_at(stage, grid(stage, 40)), strict=True):
        numbers = stage.prepare(uniforms)
        total = image * numbers[0, 0]
        for chain, weight in zip(chains(stage, numbers)[0], numbers[0, 1:4], strict=True):
            changed: Any = image
            for operation, value in chain:
                turn = Turn((("Identity", *ALL)[int(operation)],), (1.0,), 0.0)
                own = turn.params(np.zeros(1, np.int64), np.array([value]), height, width, NUMPY)
                changed = turn.reference(changed, {name: values[0] for name, values in own.items()})
            total = total + changed * weight
        assert np.array_equal(stage.reference(image, params), np.floor(total + 0.5).astype(np.uint8))


def test_an_argument_changes_no_other_draws() -> None:
    uniforms = grid(AugMix(), 200)
    weak, strong = AugMix(1).prepare(uniforms), AugMix(10).prepare(uniforms)
    assert np.array_equal(weak[:, :4], strong[:, :4])
    assert np.array_equal(chains(AugMix(1), weak)[..., 0], chains(AugMix(10), strong)[..., 0])
    drawn, fixed = (chains(stage, stage.prepare(uniforms)) for stage in (AugMix(), AugMix(chain_depth=3)))
    there = drawn[..., 0] > 0
    assert np.array_equal(drawn[there], fixed[there]) and not np.array_equal(drawn, fixed)


def test_shares_price_what_is_applied() -> None:
    stage = AugMix(mixture_width=2)
    (whole,) = stage.primitives(SPEC)
    assert isinstance(whole, WeightedSum) and whole.turns == len(whole.alternatives) == 2
    operations = chains(stage, stage.prepare(grid(stage)))[..., 0].astype(int)
    kinds = np.array(["", *(OPERATIONS[name] for name in ALL)])[operations]
    order = list(dict.fromkeys(OPERATIONS[name] for name in ALL))
    for chain, parts in enumerate(whole.alternatives):
        for position, part in enumerate(parts):
            assert isinstance(part.primitive, Choice)
            seen = [(kinds[:, chain, position] == kind).mean() for kind in order]
            assert np.allclose(seen, part.primitive.shares, atol=0.015)


# How strong


def photograph(height: int, width: int) -> Pixels:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed, whose photograph is needed")
    module = pytest.importorskip("PIL.Image", reason="Pillow-SIMD is not installed, which resizes the photograph")
    from sklearn.datasets import load_sample_image

    picture = module.fromarray(load_sample_image("flower.jpg")).resize((width, height), module.Resampling.BOX)
    return np.asarray(picture)


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(96, 128), (32, 32)], ids=["photo", "32x32"])
def test_severity_grows(sides: tuple[int, int]) -> None:
    """How far values move in the mean over the same draws; operations that have no magnitude move them at any."""
    image = photograph(*sides)
    uniforms = grid(AugMix(), 30)
    away = []
    for severity in range(1, 11):
        stage = AugMix(severity)
        mixed = [stage.reference(image, params) for params in params_at(stage, uniforms, *sides)]
        away.append(np.mean([np.abs(one.astype(int) - image).mean() for one in mixed]))
        assert min(one.std() for one in mixed) > 5.0, "an image of one value"
    assert all(b > a for a, b in pairwise(away)), away


@pytest.mark.parametrize("severity", [9, 10])
def test_no_image_loses_all_bits(severity: int) -> None:
    """torchvision keeps none at the last two magnitudes, and makes black images."""
    stage = AugMix(severity, mixture_width=1, chain_depth=1, all_ops=False)
    image = suite.pixels(32, 32, "noise")
    uniforms = grid(stage, 400)
    uniforms[:, 0] = 0.0  # the image itself weighs nothing
    uniforms[:, 3] = (PARTIAL.index("Posterize") + 0.5) / len(PARTIAL)
    drawn = [(stage.reference(image, params), params) for params in params_at(stage, uniforms, 32, 32)]
    bits = {int(params["0.1.bits"]) for _, params in drawn}
    assert bits == {1, 2, 3, 4} and {float(params["weights"][0]) for _, params in drawn} == {0.0}
    assert all(len(np.unique(mixed)) > 1 for mixed, _ in drawn)


# On backends


BACKENDS = ("tf", "native")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    found = registry.get(request.param).availability()
    if not found.usable:
        pytest.skip(f"{found.name}: {found.detail}; {found.remedy}")
    return str(request.param)


def batch(stages: tuple[Stage, ...], count: int = 24, kind: str = "photo") -> tuple[gl.Pipeline, list[Pixels]]:
    images = [suite.pixels(60, 84, kind, seed) for seed in range(count)]
    return suite.pipeline_of(Arrays(np.stack(images)), stages), images


@pytest.mark.slow
@pytest.mark.parametrize("stage", [AugMix(), AugMix(10), AugMix(4, 5, 4, 0.5, all_ops=False, fill=77)], ids=str)
def test_long_chains_stay_near_the_reference(backend: str, stage: AugMix) -> None:
    """What an operation leaves a level off, the next ones may enlarge, as histograms do; only few values are. The
    kernel's operations rarely leave any."""
    pipeline, images = batch((stage,))
    records = suite.records_of(pipeline, images)
    found, expected = suite.run(backend, pipeline, records), suite.reference(pipeline, images, records.numbers)
    away = np.abs(found.astype(int) - expected)
    assert (away > 0).mean() < {"native": 1e-4, "tf": 2e-2}[backend], (away > 0).mean()
    assert np.quantile(away, 0.9999) <= 2
    exact = (away == 0).all((1, 2, 3)).mean()
    assert exact > {"native": 0.8, "tf": 0.15}[backend], exact


@pytest.mark.slow
def test_load_gives_the_same_pixels(backend: str) -> None:
    pipeline, images = batch((gl.RandomHorizontalFlip(), AugMix(chain_depth=1), gl.Batch(8)))
    found = np.concatenate([images.numpy() for images, *_ in gl.load(pipeline, backend=backend, epochs=1)])
    assert np.array_equal(found, suite.run(backend, pipeline, suite.records_of(pipeline, images)))


def test_a_chain_that_weighs_nothing_is_no_step() -> None:
    """Nor is one that has ended: an image goes through what it drew, and the sum."""
    stage = AugMix(mixture_width=3)
    pipeline, images = batch((stage,))
    plan = make_plan(pipeline, "native")
    layout = Layout.of(TABLE, plan.segments[0].steps)
    numbers = suite.records_of(pipeline, images).numbers.copy()
    numbers[0, :4] = 0.25, 0.0, 0.75, 0.0
    numbers[1, :4] = 1.0, 0.0, 0.0, 0.0
    sides = np.full((2, len(images)), 60)
    params = DrawLayout.of(pipeline).params(numbers, *sides, [0])
    groups = layout.groups(params, len(images))
    rows = layout.rows(params, {})
    assert rows is not None and rows.shape[1] == layout.columns
    for steps, positions in groups:
        for position in positions:
            weights = numbers[position, 1:4]
            chain_ops = chains(stage, numbers[position : position + 1])[0][..., 0]
            expected = sum(int((own > 0).sum()) + 1 for own, weight in zip(chain_ops, weights, strict=True) if weight)
            ops = [step.op for step in steps]
            assert (ops[0], ops[-1], ops.count(Op.ADD)) == (Op.FORK, Op.SUM, np.count_nonzero(weights))
            assert len(ops) == expected + 2
            adds = [rows[position, step.column] for step in steps if step.op == Op.ADD]
            assert (adds, rows[position, steps[-1].column]) == (weights[weights > 0].tolist(), numbers[position, 0])


def test_all_steps_with_their_choices_are_the_groups() -> None:
    """What TensorFlow's operation picks by each image's choices, and what Python groups images by."""
    stages = (gl.RandomChoice([AugMix(4, 2, 2), gl.RandomVerticalFlip()]), gl.RandomApply(AugMix(mixture_width=1)))
    pipeline, images = batch(stages)
    plan = make_plan(pipeline, "native")
    layout = Layout.of(TABLE, plan.segments[0].steps)
    numbers = suite.records_of(pipeline, images).numbers
    params = DrawLayout.of(pipeline).params(numbers, *np.full((2, len(images)), 60), [0, 1])
    choices = np.concatenate(layout.choices(params), axis=-1)
    for steps, positions in layout.groups(params, len(images)):
        for row in choices[positions]:
            chosen = [
                one.step
                for one in layout.chosen_steps()
                if all(row[column] == alternative for column, alternative in one.choices)
            ]
            assert [step for step in chosen if step.counter >= 0] == [step for step in steps if step.counter >= 0]


@pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")
def test_inside_combinators_images_are_the_references() -> None:
    exact = AugMix(4, 3, 1)
    stages = (gl.RandomChoice([exact, gl.RandomVerticalFlip(1.0)]), gl.RandomApply(exact), gl.RandomHorizontalFlip())
    pipeline, images = batch(stages, 40, "noise")
    records = suite.records_of(pipeline, images)
    found = suite.run("native", pipeline, records)
    away = np.abs(found.astype(int) - suite.reference(pipeline, images, records.numbers))
    assert away.max() <= 2 and (away > 0).mean() < 1e-3


@pytest.mark.parametrize("name", ["pillow", "dali-cpu", "dali"])
def test_other_backends_refuse_it_by_name(name: str) -> None:
    pipeline, _ = batch((AugMix(severity=4),), 2)
    said = rf"\w+ of AugMix\(severity=4\) can't run on backend '{name}' .*use backend='tf'"
    with pytest.raises(PipelineError, match=said):
        make_plan(pipeline, name)


def test_auto_finds_a_backend_and_prices_the_sum() -> None:
    pipeline, _ = batch((AugMix(),), 2)
    plan = make_plan(pipeline)
    assert set(plan.backends) <= set(BACKENDS)
    assert [step.name for step in plan.steps].count("AugMix") == 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AugMix(0), "severity must be a whole number from 1 to 10, not 0"),
        (lambda: AugMix(11), "severity must be a whole number from 1 to 10, not 11"),
        (lambda: AugMix(2.5), "severity must be a whole number"),  # type: ignore[arg-type]
        (lambda: AugMix(mixture_width=0), "mixture_width must be a whole number from 1, not 0"),
        (lambda: AugMix(chain_depth=0), "chain_depth must be a whole number from 1, or -1 to draw it, not 0"),
        (lambda: AugMix(chain_depth=-2), "chain_depth must be a whole number from 1, or -1 to draw it, not -2"),
        (lambda: AugMix(alpha=0.0), "alpha must be a number from 0.001 to 1000, not 0.0"),
        (lambda: AugMix(all_ops=1), "all_ops must be True or False, not 1"),  # type: ignore[arg-type]
        (lambda: AugMix(fill=float("inf")), "fill must be one finite number"),
    ],
)
def test_an_argument_out_of_range_is_named(make: Any, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        make()


def test_severity_one_changes_little() -> None:
    """Magnitude 0 of all: no shift, no turn, factors of 1; 4 bits, and white becomes black."""
    stage = AugMix(1)
    numbers = stage.prepare(grid(stage, 2000))
    for name, value in itertools.chain(zip(SIGNED, itertools.repeat(0.0)), [("Posterize", 4.0), ("Solarize", 255.0)]):
        assert set(by_name(stage, numbers, name)) == {value}
