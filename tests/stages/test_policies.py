"""Policies against their published definitions: ranges table by table, how strong, how often, and whose pixels."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from greenload import strategies
from greenload.array_ops import NUMPY
from greenload.errors import PipelineError
from greenload.planning.choose import make_plan
from greenload.plans.pipeline import Pipeline
from greenload.sources import Arrays
from greenload.specs import ImageSpec
from greenload.stages import AutoAugment, Batch, RandAugment, RandomApply, Stage, TrivialAugmentWide, autoaugment
from greenload.stages.operations import OPERATIONS, SIGNED, Turn, evenly
from greenload.stages.policies import magnitudes
from greenload.stages.primitives import Choice, params_of

RAND: dict[str, Any] = {"slope": 0.3, "shift": 150 / 331, "degrees": 30.0, "change": 0.9, "bits": 4}
WIDE: dict[str, Any] = {"slope": 0.99, "shift": 1 / 7, "degrees": 135.0, "change": 0.99, "bits": 2}
SPACES = {
    "randaugment": magnitudes(31, **RAND),
    "trivial": magnitudes(31, **WIDE),
    "autoaugment": magnitudes(10, **RAND),
}
FOURTEEN = tuple(name for name in OPERATIONS if name != "Invert")


def applied(name: str, value: float, image: np.ndarray[Any, Any], fill: float = 0.0) -> np.ndarray[Any, Any]:
    """An image after one operation, by its reference."""
    turn = Turn((name,), (1.0,), fill)
    height, width = (np.array([side]) for side in image.shape[:2])
    params = turn.params(np.zeros(1, np.int64), np.array([value]), height, width, NUMPY)
    return turn.reference(image, {key: own[0] for key, own in params.items()})


def drawn(stage: Stage, uniforms: np.ndarray[Any, Any], height: int = 48, width: int = 64) -> Any:
    count = len(uniforms)
    return stage.params(stage.prepare(uniforms), np.full(count, height), np.full(count, width))


def photograph(height: int, width: int) -> np.ndarray[Any, Any]:
    """A real one, whose pixels are unlike their neighbours however far apart; a wave would come back to itself."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    picture = Image.fromarray(load_sample_image("flower.jpg")).resize((width, height), Image.Resampling.BOX)
    return np.asarray(picture)


pytest.importorskip("sklearn", reason="scikit-learn is not installed, whose photograph is needed")
pytest.importorskip("PIL", reason="Pillow-SIMD is not installed, which resizes the photograph")
PHOTO, SMALL = photograph(96, 128), photograph(32, 32)


# The published definitions


def test_ranges_of_randaugment_and_autoaugment_are_the_papers() -> None:
    """Table 6 of AutoAugment: slopes to 0.3, shifts to 150 of 331 pixels, 30 degrees, 4 to 8 bits, thresholds from 255
    to 0, factors from 0.1 to 1.9."""
    for space, bins in ((SPACES["randaugment"], 31), (SPACES["autoaugment"], 10)):
        assert {len(values) for values in space.values()} == {bins} and set(space) == set(OPERATIONS)
        for name, most in {
            "ShearX": 0.3,
            "ShearY": 0.3,
            "TranslateX": 150 / 331,
            "TranslateY": 150 / 331,
            "Rotate": 30.0,
            "Brightness": 0.9,
            "Color": 0.9,
            "Contrast": 0.9,
            "Sharpness": 0.9,
        }.items():
            assert np.allclose(space[name], np.linspace(0.0, most, bins)), name
        assert np.allclose(space["Solarize"], np.linspace(255.0, 0.0, bins))
    assert SPACES["autoaugment"]["Posterize"] == (8, 8, 7, 7, 6, 6, 5, 5, 4, 4)
    assert SPACES["randaugment"]["Posterize"] == (8,) * 4 + (7,) * 8 + (6,) * 7 + (5,) * 8 + (4,) * 4


def test_ranges_of_trivialaugment_are_the_papers_wide_space() -> None:
    """Table 1 of TrivialAugment, where 32 pixels are a share of 224."""
    space = SPACES["trivial"]
    most = {name: values[-1] for name, values in space.items()}
    assert most["ShearX"] == most["ShearY"] == 0.99 and most["Rotate"] == 135.0
    assert most["TranslateX"] == most["TranslateY"] == pytest.approx(32 / 224)
    assert {most[name] for name in ("Brightness", "Color", "Contrast", "Sharpness")} == {0.99}
    assert space["Posterize"] == tuple(8.0 - np.rint(np.arange(31) / 5)) and min(space["Posterize"]) == 2.0
    assert most["Solarize"] == 0.0


def test_signed_operations_are_those_that_have_two_sides() -> None:
    assert set(OPERATIONS) - set(SIGNED) == {"Identity", "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert"}


@pytest.mark.parametrize("policy", autoaugment.POLICIES)
def test_a_policy_has_25_pairs_with_probabilities_and_magnitudes(policy: str) -> None:
    pairs = autoaugment.POLICIES[policy]
    assert len(pairs) == 25
    for one in (one for pair in pairs for one in pair):
        assert one.name in OPERATIONS and 0.0 <= one.probability <= 1.0 and 0 <= one.magnitude <= 9


def test_pairs_are_the_papers() -> None:
    """First and last lines of tables 7, 8 and 9."""
    ends = {name: (pairs[0], pairs[-1]) for name, pairs in autoaugment.POLICIES.items()}
    assert ends["imagenet"][0] == (("Posterize", 0.4, 8), ("Rotate", 0.6, 9))
    assert ends["imagenet"][1] == (("Equalize", 0.8, 0), ("Equalize", 0.6, 0))
    assert ends["cifar10"][0] == (("Invert", 0.1, 0), ("Contrast", 0.2, 6))
    assert ends["cifar10"][1] == (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 0))
    assert ends["svhn"][0] == (("ShearX", 0.9, 4), ("Invert", 0.2, 0))
    assert ends["svhn"][1] == (("ShearX", 0.7, 2), ("Invert", 0.1, 0))


# How strong


@pytest.mark.parametrize("image", [PHOTO, SMALL], ids=["photo", "32x32"])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in ("Identity",)])
def test_severity_grows_with_the_magnitude(name: str, space: str, image: np.ndarray[Any, Any]) -> None:
    """How far values move; of affine maps how far pixels do, as a photograph's values may be alike again farther on."""
    for sign in (1.0, -1.0) if name in SIGNED else (1.0,):
        values = SPACES[space][name]
        away = [float(np.abs(applied(name, sign * value, image).astype(int) - image).mean()) for value in values]
        if OPERATIONS[name] == "affine":
            moved = [shift(name, sign * value, image) for value in values]
            assert all(b > a or (b == a and name.startswith("Translate")) for a, b in pairwise(moved)), moved
            assert all(b >= 0.95 * a for a, b in pairwise(away)) and moved[0] == 0.0
        else:
            assert all(b >= a - 1e-9 for a, b in pairwise(away)), away
        if name in SIGNED or name == "Posterize":
            assert away[0] == 0.0 < away[-1]


def shift(name: str, value: float, image: np.ndarray[Any, Any]) -> float:
    """How many pixels an affine map moves pixels, in the mean."""
    height, width = (np.array([side]) for side in image.shape[:2])
    params = Turn((name,), (1.0,), 0.0).params(np.zeros(1, np.int64), np.array([value]), height, width, NUMPY)
    rows, columns = np.mgrid[: height[0], : width[0]] + 0.5
    x, y = (m[0] * columns + m[1] * rows + m[2] for m in params["0.matrix"][0])
    return float(np.hypot(x - columns, y - rows).mean())


@pytest.mark.parametrize("image", [PHOTO, SMALL], ids=["photo", "32x32"])
@pytest.mark.parametrize("space", SPACES)
def test_no_operation_makes_an_image_of_one_value(space: str, image: np.ndarray[Any, Any]) -> None:
    for name, values in SPACES[space].items():
        for value in sorted({sign * v for v in values for sign in ((1, -1) if name in SIGNED else (1,))}):
            assert applied(name, value, image).std() > 0.5, (name, value)


@pytest.mark.parametrize(("name", "axis"), [("TranslateX", 1), ("TranslateY", 0)])
@pytest.mark.parametrize("side", [32, 224])
def test_a_shift_is_a_share_of_the_side_in_whole_pixels(name: str, axis: int, side: int) -> None:
    image = np.full((side, side, 3), 200, np.uint8)
    for share in (150 / 331, -150 / 331, 32 / 224, 0.5 / side, *(np.arange(31) / 30 * 0.7)):
        gone = (applied(name, share, image) == 0).all(axis=(1 - axis, 2))
        pixels = int(abs(share) * side + 1e-6)
        expected = np.zeros(side, bool)
        expected[:pixels] = True
        assert np.array_equal(gone, expected if share > 0 else expected[::-1])


# Whose pixels


def test_operations_have_pillows_pixels() -> None:
    """Pillow cuts blended values where these are rounded, and its contrast takes the mean grey as a whole number: one
    level, and two for contrast. It sharpens by a smoothing that is rounded first."""
    from PIL import Image, ImageEnhance, ImageOps

    picture = Image.fromarray(PHOTO)
    enhancers = {
        "Brightness": (ImageEnhance.Brightness, 1),
        "Color": (ImageEnhance.Color, 2),
        "Contrast": (ImageEnhance.Contrast, 2),
        "Sharpness": (ImageEnhance.Sharpness, 2),
    }
    for name, (enhancer, levels) in enhancers.items():
        for change in (-0.9, -0.27, 0.27, 0.9):
            expected = np.asarray(enhancer(picture).enhance(1.0 + change)).astype(int)
            assert np.abs(applied(name, change, PHOTO) - expected).max() <= levels, (name, change)
    exact = {
        ("Posterize", 5.0): ImageOps.posterize(picture, 5),
        ("Solarize", 100.0): ImageOps.solarize(picture, 100),
        ("AutoContrast", 0.0): ImageOps.autocontrast(picture),
        ("Equalize", 0.0): ImageOps.equalize(picture),
        ("Invert", 0.0): ImageOps.invert(picture),
        ("Identity", 0.0): picture,
    }
    for (name, value), expected_image in exact.items():
        assert np.array_equal(applied(name, value, PHOTO), np.asarray(expected_image)), name


def test_affine_maps_are_the_papers() -> None:
    """Pillow's transforms of the paper's code: shears about the corner, and turns counter-clockwise about the centre;
    inside, where no fill counts."""
    from PIL import Image

    picture = Image.fromarray(PHOTO)
    maps = {
        ("ShearX", 0.2): (1, 0.2, 0, 0, 1, 0),
        ("ShearY", -0.2): (1, 0, 0, -0.2, 1, 0),
        ("TranslateX", 13.4 / 128): (1, 0, -13, 0, 1, 0),
        ("TranslateY", -13.4 / 96): (1, 0, 0, 0, 1, 13),
    }
    for (name, value), coefficients in maps.items():
        same = picture.transform(picture.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
        away = np.abs(applied(name, value, PHOTO).astype(int) - np.asarray(same))[2:-2, 2:-2]
        assert np.quantile(away, 0.97) <= 1, name
    turned = picture.rotate(20, Image.Resampling.BILINEAR)
    away = np.abs(applied("Rotate", 20.0, PHOTO).astype(int) - np.asarray(turned))[2:-2, 2:-2]
    assert np.quantile(away, 0.97) <= 1


# How often


def grid(draws: int, count: int = 20_000) -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).random((count, draws))


@pytest.mark.parametrize(
    "stage", [RandAugment(2, 9), RandAugment(3, 4, only=("Rotate", "Invert")), TrivialAugmentWide()]
)
def test_operations_and_signs_are_drawn_alike(stage: Any) -> None:
    numbers = stage.prepare(grid(stage.draws))
    names = stage._names
    for turn in range(numbers.shape[1] // 2):
        operation, value = numbers[:, 2 * turn].astype(int), numbers[:, 2 * turn + 1]
        counts = np.bincount(operation, minlength=len(names))
        expected = len(numbers) / len(names)
        assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))
        for name in set(names) & set(SIGNED):
            own = value[operation == names.index(name)]
            own = own[own != 0]
            assert abs((own < 0).mean() - 0.5) < 5 * 0.5 / np.sqrt(len(own)), name


def test_trivialaugment_draws_every_magnitude_alike() -> None:
    stage = TrivialAugmentWide(num_magnitude_bins=5, only=("Solarize",))
    values = stage.prepare(grid(stage.draws))[:, 1]
    levels, counts = np.unique(values, return_counts=True)
    assert np.allclose(levels, [0.0, 63.75, 127.5, 191.25, 255.0])
    assert np.all(np.abs(counts - 4000) < 5 * np.sqrt(4000))


def test_turns_are_drawn_apart() -> None:
    """The same operation twice has a sign of its own each time."""
    stage = RandAugment(2, 9, only=("Rotate",))
    first, second = stage.prepare(grid(stage.draws))[:, [1, 3]].T
    assert abs((first == second).mean() - 0.5) < 0.02


@pytest.mark.parametrize("policy", autoaugment.POLICIES)
def test_a_pair_is_drawn_whole_with_its_probabilities(policy: str) -> None:
    stage = AutoAugment(policy)
    names = stage._names
    uniforms = grid(5)
    uniforms[:, 0] = (np.arange(len(uniforms)) % 25 + 0.5) / 25
    numbers = stage.prepare(uniforms)
    for k, pair in enumerate(autoaugment.POLICIES[policy]):
        for turn, one in enumerate(pair):
            own = numbers[k::25, 2 * turn : 2 * turn + 2]
            chosen = own[:, 0] == names.index(one.name)
            assert set(own[:, 0]) <= {names.index(one.name), names.index("Identity")}
            assert abs(chosen.mean() - one.probability) < 5 * 0.5 / np.sqrt(len(own)), (one, k)
            sizes = {round(abs(value), 9) for value in own[chosen, 1]}
            assert sizes <= {round(SPACES["autoaugment"][one.name][one.magnitude], 9)}


def test_shares_price_what_is_applied() -> None:
    """The mean of what each image gets is what a plan is priced by."""
    for stage in (RandAugment(2, 9), TrivialAugmentWide(), AutoAugment("svhn")):
        (outer,) = stage.primitives(ImageSpec((48, 64, 3), "uint8", "HWC"))
        assert isinstance(outer, Choice)
        params = drawn(stage, grid(stage.draws))
        choices = [params_of(params, k)["choices"][:, 0] for k in range(len(outer.alternatives[0]))]
        for index, share in enumerate(outer.alternatives[0][0].primitive.shares):  # type: ignore[attr-defined]
            seen = np.mean([own == index for own in choices])
            assert abs(seen - share) < 0.015, (stage, index)


# What an argument says


def test_a_policy_without_turns_or_kinds_has_no_primitive() -> None:
    spec = ImageSpec((48, 64, 3), "uint8", "HWC")
    assert RandAugment(0).primitives(spec) == RandAugment(only="Identity").primitives(spec) == ()


def test_fused_maps_are_one_interpolation() -> None:
    """A turn back and forth is the image itself, where two interpolations blur it."""
    stage = RandAugment(2, 9, only=("Rotate",))
    fused = RandAugment(2, 9, only=("Rotate",), fuse_affine=True)
    uniforms = np.array([[0.0, 0.0, 0.1, 0.0, 0.0, 0.9]])
    apart, together = ({k: v[0] for k, v in drawn(one, uniforms, 96, 128).items()} for one in (stage, fused))
    assert (int(apart["0.choices"][0]), int(apart["1.choices"][0])) == (0, 0)
    assert (int(together["0.choices"][0]), int(together["1.choices"][0])) == (-1, 0)
    assert np.abs(fused.reference(PHOTO, together).astype(int) - PHOTO).max() <= 1
    assert np.abs(stage.reference(PHOTO, apart).astype(int) - PHOTO).max() > 20


def test_fused_maps_are_those_of_their_turns() -> None:
    """Three turns: the last has all, as the maps one after another have."""
    names = ("Rotate", "ShearX", "TranslateY")
    apart = RandAugment(3, 20, only=names)
    fused = RandAugment(3, 20, only=names, fuse_affine=True)
    uniforms = grid(apart.draws, 200)
    ours, theirs = drawn(fused, uniforms), drawn(apart, uniforms)
    whole = [np.concatenate([theirs[f"{k}.0.matrix"], np.tile([[[0.0, 0.0, 1.0]]], (200, 1, 1))], 1) for k in range(3)]
    assert np.allclose(ours["2.0.matrix"], (whole[0] @ whole[1] @ whole[2])[:, :2])
    assert (ours["0.choices"] == -1).all() and (ours["1.choices"] == -1).all() and (ours["2.choices"] == 0).all()


def test_an_argument_changes_no_other_draws() -> None:
    uniforms = grid(6, 50)
    weak, strong = RandAugment(2, 3).prepare(uniforms), RandAugment(2, 30).prepare(uniforms)
    assert np.array_equal(weak[:, ::2], strong[:, ::2])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RandAugment(-1), "num_ops must be a whole number from 0, not -1"),
        (lambda: RandAugment(2, 31), "magnitude must be a whole number from 0 to 30"),
        (lambda: RandAugment(2, 9.5), "magnitude must be a whole number"),  # type: ignore[arg-type]
        (lambda: RandAugment(num_magnitude_bins=1), "num_magnitude_bins must be a whole number from 2, not 1"),
        (lambda: RandAugment(only=("Rotat",)), r"only must be a list of names, each once, of .*not \('Rotat',\)"),
        (lambda: RandAugment(only=("Rotate", "Rotate")), "each once"),
        (lambda: RandAugment(only=[["Rotate"]]), "only must be a list of names"),  # type: ignore[list-item]
        (lambda: RandAugment(only={"Rotate"}), "only must be a list of names"),  # type: ignore[arg-type]
        (lambda: AutoAugment(["imagenet"]), "policy must be one of"),  # type: ignore[arg-type]
        (lambda: RandAugment(fill=300), "fill must be a whole number from 0 to 255, not 300"),
        (lambda: TrivialAugmentWide(only=()), "only must be a list of names"),
        (lambda: RandAugment(fuse_affine=1), "fuse_affine must be True or False, not 1"),  # type: ignore[arg-type]
        (lambda: AutoAugment("mnist"), "policy must be one of 'imagenet', 'cifar10', 'svhn', not 'mnist'"),
        (lambda: AutoAugment(fill=float("nan")), "fill"),
    ],
)
def test_an_argument_out_of_range_is_named(make: Any, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        make()


@pytest.mark.parametrize("stage", [RandAugment(), TrivialAugmentWide(), AutoAugment()], ids=str)
@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), "works on uint8 images, but here they are float32"),
        (np.zeros((2, 8, 8, 1), np.uint8), "works on images of 3 channels"),
    ],
    ids=["float", "grey"],
)
def test_images_that_do_not_fit_are_refused(stage: Stage, images: np.ndarray[Any, Any], said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        Pipeline(Arrays(images), stage)


def test_an_operation_that_a_backend_lacks_is_named() -> None:
    pipeline = Pipeline(Arrays(np.zeros((2, 8, 8, 3), np.uint8)), RandAugment(), Batch(2))
    without = r"can't run on backend '{}'.*: use backend='tf', or leave out {} by only=\[…\]$"
    with pytest.raises(PipelineError, match="^Equalize of RandAugment.. " + without.format("dali-cpu", "Equalize")):
        make_plan(pipeline, "dali-cpu")
    maps = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
    with pytest.raises(PipelineError, match="^Warp of RandAugment.. " + without.format("pillow", ", ".join(maps))):
        make_plan(pipeline, "pillow")
    for backend, lacking in (("dali-cpu", ("Equalize",)), ("pillow", maps)):  # who does as told is understood
        rest = RandAugment(only=[name for name in RandAugment.ALL if name not in lacking])
        make_plan(Pipeline(pipeline.source, rest, Batch(2)), backend)
    for nothing_left in (RandAugment(only=["Equalize"]), AutoAugment()):
        with pytest.raises(PipelineError, match=r"^Equalize of .*: use backend='tf'$"):
            make_plan(Pipeline(pipeline.source, nothing_left, Batch(2)), "dali-cpu")
    inside = Pipeline(Arrays(np.zeros((2, 8, 8, 3), np.uint8)), RandomApply(TrivialAugmentWide()), Batch(2))
    with pytest.raises(PipelineError, match=r"^Equalize of TrivialAugmentWide\(\)"):
        make_plan(inside, "dali-cpu")


def test_ready_lists_are_stages() -> None:
    lists = [strategies.standard, strategies.randaugment, strategies.trivial, strategies.autoaugment]
    for make in (*lists, strategies.augmix, strategies.three_augment):
        stages = make(64)
        assert stages[:2] == strategies.standard(64) and all(isinstance(stage, Stage) for stage in stages)
    (mixed,) = strategies.mixes(10)
    assert mixed.mixes


def test_shares_of_operations_sum_to_one() -> None:
    assert sum(evenly(FOURTEEN)) == pytest.approx(1.0)
    assert all(sum(AutoAugment(policy)._shares) == pytest.approx(1.0) for policy in autoaugment.POLICIES)
