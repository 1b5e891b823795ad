"""The hash and the permutation: the same bits in NumPy and TensorFlow, uniform, independent, and a bijection."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from greenload.array_ops import NUMPY, TENSORFLOW
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.randomness import BETA_STEPS, base, beta, mix, permute, stage_key, uniforms
from greenload.sources import Arrays
from greenload.stages import Batch, CenterCrop, RandomHorizontalFlip, RandomResizedCrop, Shuffle

FLIP = stage_key("RandomHorizontalFlip", 0)
CROP = stage_key("RandomResizedCrop", 0)
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 100, 127, 128, 129, 1000, 4095, 65_537, 1_000_003)


def drawn(seed: int = 0, epoch: int = 0, count: int = 1, samples: int = 20_000, key: int = FLIP) -> np.ndarray:
    return uniforms(base(seed, epoch, np.arange(samples)), key, count)


def splitmix64(x: int) -> int:
    """SplitMix64's published step, in Python integers."""
    mask = (1 << 64) - 1
    x = (x + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_mix_is_splitmix64() -> None:
    assert int(mix(np.array([0], np.uint64))[0]) == 0xE220A8397B1DCDAF  # the generator's first output from state 0
    words = np.random.default_rng(0).integers(0, 1 << 64, 1000, dtype=np.uint64)
    assert [int(w) for w in mix(words)] == [splitmix64(int(w)) for w in words]


def test_draws_never_change_between_versions() -> None:
    # A run that resumes with another version of greenload must go on with the same augmentation.
    assert uniforms(base(7, 3, np.array([11])), FLIP, 2)[0].tolist() == [0.5101639997142776, 0.01570879882427134]
    assert permute(np.arange(9), 9, seed=7, epoch=3).tolist() == [4, 7, 2, 3, 1, 8, 6, 0, 5]
    assert permute(np.arange(7), 7, seed=7, epoch=3).tolist() == [4, 0, 2, 3, 1, 5, 6]


@pytest.mark.parametrize("seed", [0, 7, -1, 2**63, 2**64 + 5])
def test_a_million_draws_are_bit_equal_in_tensorflow(seed: int) -> None:
    tf = pytest.importorskip("tensorflow")
    ops = TENSORFLOW
    index = np.arange(50_000) * 977
    count = 4
    plain = uniforms(base(seed, 5, index), CROP, count)
    compiled = tf.function(lambda i, e: uniforms(base(seed, e, i, ops=ops), CROP, count, ops))
    assert plain.size * 5 == 1_000_000
    assert plain.tobytes() == compiled(tf.constant(index), tf.constant(5, tf.int64)).numpy().tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_the_permutation_is_bit_equal_in_tensorflow(size: int) -> None:
    tf = pytest.importorskip("tensorflow")
    position = np.unique(np.concatenate([np.arange(min(size, 20_000)), np.arange(max(0, size - 1000), size)]))
    for seed, epoch in ((0, 0), (7, 3), (2**64 - 1, 10**6)):
        other = permute(tf.constant(position), size, seed, tf.constant(epoch, tf.int64), TENSORFLOW).numpy()
        plain = permute(position, size, seed, epoch)
        assert plain.dtype == other.dtype == np.int64
        assert (plain == other).all()


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_every_sample_comes_once(size: int) -> None:
    order = permute(np.arange(size), size, seed=3, epoch=1)
    assert (np.bincount(order, minlength=size) == 1).all()
    assert len(order) == size


@given(size=st.integers(1, 3000), seed=st.integers(-(2**70), 2**70), epoch=st.integers(0, 2**40))
@settings(max_examples=150, deadline=None)
def test_every_sample_comes_once_for_any_seed(size: int, seed: int, epoch: int) -> None:
    assert sorted(permute(np.arange(size), size, seed, epoch).tolist()) == list(range(size))


def test_any_part_of_the_order_can_be_asked_for() -> None:
    whole = permute(np.arange(1000), 1000, seed=1, epoch=2)
    assert (permute(np.arange(990, 1000), 1000, 1, 2) == whole[990:]).all()
    assert permute(np.array([[5, 6], [7, 8]]), 1000, 1, 2).tolist() == whole[5:9].reshape(2, 2).tolist()


def test_uniforms_lie_in_the_unit_interval_and_use_53_bits() -> None:
    values = drawn(count=50)
    assert values.min() >= 0.0
    assert values.max() < 1.0
    assert (values * 2.0**53 % 1 == 0).all()
    assert (values * 2.0**53 % 2 == 1).mean() == pytest.approx(0.5, abs=0.01)  # the last bit is drawn too


def test_the_largest_word_stays_below_one() -> None:
    top = NUMPY.shift_right(np.array([2**64 - 1], np.uint64), 11)
    assert float(top[0]) * 2.0**-53 < 1.0


@pytest.mark.parametrize("seed", range(4))
def test_uniforms_are_uniform(seed: int) -> None:
    values = drawn(seed=seed, epoch=seed, count=3).ravel()
    assert stats.kstest(values, "uniform").pvalue > 1e-4
    assert stats.chisquare(np.histogram(values, 256, (0, 1))[0]).pvalue > 1e-4


NEIGHBOURS = {
    "index": (drawn(), drawn(samples=20_001)[1:]),
    "epoch": (drawn(epoch=0), drawn(epoch=1)),
    "seed": (drawn(seed=0), drawn(seed=1)),
    "stage": (drawn(key=FLIP), drawn(key=CROP)),
    "occurrence": (drawn(key=FLIP), drawn(key=stage_key("RandomHorizontalFlip", 1))),
    "position": (drawn(count=2)[:, :1], drawn(count=2)[:, 1:]),
    "repeat": (drawn(), uniforms(base(0, 0, np.arange(20_000), repeat=1), FLIP, 1)),
    "seed against epoch": (drawn(seed=1, epoch=0), drawn(seed=0, epoch=1)),
    "epoch against index": (drawn(epoch=1), drawn(samples=20_001)[1:]),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours_are_independent(name: str) -> None:
    a, b = (values.ravel() for values in NEIGHBOURS[name])
    assert not (a == b).any()
    assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / np.sqrt(len(a))
    table = np.histogram2d(a, b, 16, [[0, 1], [0, 1]])[0]
    assert stats.chisquare(table.ravel()).pvalue > 1e-4
    assert stats.kstest((a - b) % 1.0, "uniform").pvalue > 1e-4


@pytest.mark.long
@pytest.mark.parametrize("key", [FLIP, CROP])
def test_many_uniforms_are_uniform(key: int) -> None:
    for epoch in range(5):
        values = drawn(seed=11, epoch=epoch, count=10, samples=200_000, key=key).ravel()
        assert stats.kstest(values, "uniform").pvalue > 1e-4
        assert stats.chisquare(np.histogram(values, 65_536, (0, 1))[0]).pvalue > 1e-4
        low = (values * 2.0**53).astype(np.int64) % 1024
        assert stats.chisquare(np.bincount(low, minlength=1024)).pvalue > 1e-4


@pytest.mark.long
def test_pairs_of_neighbours_fill_the_square() -> None:
    values = drawn(count=2, samples=1_000_000)
    for pair in (values, np.stack([values[:-1, 0], values[1:, 0]], -1)):
        table = np.histogram2d(pair[:, 0], pair[:, 1], 128, [[0, 1], [0, 1]])[0]
        assert stats.chisquare(table.ravel()).pvalue > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_every_order_of_a_few_samples_is_equally_likely(size: int) -> None:
    epochs = 4000
    orders = np.stack([permute(np.arange(size), size, seed=1, epoch=epoch) for epoch in range(epochs)])
    codes = orders @ (size ** np.arange(size))
    counts = np.unique(codes, return_counts=True)[1]
    assert len(counts) == [0, 0, 2, 6, 24, 120][size]
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.long
@pytest.mark.parametrize("by", ["epoch", "seed"])
def test_every_sample_is_equally_likely_at_every_position(by: str) -> None:
    size, count = 23, 20_000
    table = np.zeros((size, size))
    for k in range(count):
        order = permute(np.arange(size), size, seed=k if by == "seed" else 5, epoch=k if by == "epoch" else 0)
        table[np.arange(size), order] += 1
    # rows and columns both sum to `count`: (size − 1)² degrees of freedom
    statistic = ((table - count / size) ** 2 / (count / size)).sum()
    assert stats.chi2.sf(statistic, (size - 1) ** 2) > 1e-4


@pytest.mark.parametrize("size", [1000, 1024, 10_007])
def test_epochs_orders_have_nothing_in_common(size: int) -> None:
    orders = [permute(np.arange(size), size, seed=7, epoch=epoch) for epoch in range(6)]
    orders += [permute(np.arange(size), size, seed=8, epoch=0), np.arange(size)]
    for a in range(len(orders)):
        for b in range(a):
            assert abs(np.corrcoef(orders[a], orders[b])[0, 1]) < 4.5 / np.sqrt(size)
            assert (orders[a] == orders[b]).sum() < 10  # Poisson of mean 1
            steps = (orders[a] - orders[b]) % size
            assert stats.kstest(steps / size, "uniform").pvalue > 1e-4


def test_neighbours_in_the_source_are_not_neighbours_in_the_order() -> None:
    order = permute(np.arange(10_000), 10_000, seed=7, epoch=0)
    gaps = np.diff(order)
    assert (np.abs(gaps) == 1).sum() < 12  # Poisson of mean 2
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.045
    assert stats.kstest((gaps % 10_000) / 10_000, "uniform").pvalue > 1e-4


def test_adding_a_stage_changes_no_other_stages_draws() -> None:
    source = Arrays(np.zeros((40, 8, 8, 3), np.uint8))
    lean = Pipeline(source, RandomResizedCrop(4), RandomHorizontalFlip(), Batch(2), seed=7)
    rich = Pipeline(
        source,
        Shuffle(),
        CenterCrop(6),
        RandomResizedCrop(4),
        CenterCrop(4),
        RandomHorizontalFlip(),
        RandomHorizontalFlip(0.1),
        Batch(2),
        seed=7,
    )
    index = np.arange(40)
    few, many = DrawLayout.of(lean), DrawLayout.of(rich)
    a, b = few.prepare(7, 2, index), many.prepare(7, 2, index)
    assert (few.of_stage(a, 0) == many.of_stage(b, 2)).all()
    assert (few.of_stage(a, 1) == many.of_stage(b, 4)).all()
    assert (few.of_stage(a, 1) != many.of_stage(b, 5)).all()


def test_stage_keys_are_pinned_and_differ() -> None:
    assert stage_key("RandomHorizontalFlip", 0) == 0xDDB1106C8194DE41
    keys = {stage_key(name, k) for name in ("Shuffle", "RandomResizedCrop", "RandomHorizontalFlip") for k in range(9)}
    assert len(keys) == 27


@pytest.mark.parametrize("alpha", [0.001, 0.2, 1.0, 3.7, 1000.0])
def test_beta_is_the_inverse_of_the_distribution_function(alpha: float) -> None:
    grid = np.concatenate([np.linspace(0, 1, 5001)[:-1], drawn(samples=5000)[:, 0]])
    found = beta(grid, alpha)
    assert (found * BETA_STEPS == np.rint(found * BETA_STEPS)).all()
    lower, upper = (stats.beta.cdf(found + half / BETA_STEPS, alpha, alpha) for half in (-0.5, 0.5))
    assert (lower <= grid + 1e-11).all() and (grid < upper + 1e-11).all()
    sure = grid[1 : 5000 // 2]
    np.testing.assert_allclose(beta(sure, alpha) + beta(1 - sure, alpha), 1.0, atol=1.01 / BETA_STEPS)


def test_beta_has_the_spread_that_alpha_says() -> None:
    for alpha in (0.2, 1.0, 8.0):
        values = beta(drawn(seed=3)[:, 0], alpha)
        assert values.mean() == pytest.approx(0.5, abs=0.01)
        assert values.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


def test_beta_has_the_same_bits_in_tensorflow() -> None:
    tf = pytest.importorskip("tensorflow")
    values = np.concatenate([[0.0, 0.5, 1 - 2.0**-53], drawn(samples=1000)[:, 0]])
    for alpha in (0.2, 1.0, 1000.0):
        assert beta(values, alpha).tobytes() == beta(tf.constant(values), alpha, TENSORFLOW).numpy().tobytes()
