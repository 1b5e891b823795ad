"""Rules that propose changes to a dataset, and one that is tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.energy.figures import Figure
from greenload.profiling.tfdata import advice, rules
from greenload.profiling.tfdata.counting import count_elements
from greenload.profiling.tfdata.rebuild import Builder
from greenload.profiling.tfdata.rules import MeasuredDataset, Proposal
from greenload.profiling.tfdata.walk import walk

tf = pytest.importorskip("tensorflow")

Range = tf.data.Dataset.range


def work(x: Any) -> Any:
    """Takes a moment."""
    return tf.reduce_sum(tf.sin(tf.range(20_000.0) * tf.cast(x, tf.float32))) * 0 + tf.cast(x, tf.float32)


def rolled(x: Any) -> Any:
    """Random."""
    return tf.cast(x, tf.float32) + tf.random.uniform([])


def tenth(x: Any) -> Any:
    """The same on a batch."""
    return x / 10


def summed(x: Any) -> Any:
    """Not the same on a batch."""
    return tf.fill(tf.shape(x), tf.reduce_sum(x))


def found(dataset: Any, tmp_path: Path) -> tuple[MeasuredDataset, Builder]:
    """What rules see, every step at a millisecond."""
    root, builder = walk(dataset), Builder(str(tmp_path))
    costs = {node.name: Figure(1e-3, 9e-4, 1.1e-3, "measured") for node in root.nodes() if not node.hidden}
    return MeasuredDataset(
        root, count_elements(root, builder, 64, lambda: None), costs, rules.main_line(root), 1e9
    ), builder


def values(dataset: Any) -> list[Any]:
    """All elements."""
    return [tf.nest.map_structure(lambda part: np.asarray(part).tolist(), element) for element in dataset]


def rows(dataset: Any) -> list[Any]:
    """All rows of all batches, in order of size."""
    return sorted(row for batch in values(dataset) for row in batch)


def made(candidate: Proposal | None, builder: Builder) -> Any:
    """The changed dataset."""
    assert candidate is not None
    return candidate.make(builder)


def test_a_cache_goes_behind_the_last_step_that_repeats(tmp_path: Path) -> None:
    dataset = Range(20).shuffle(20, seed=1).map(work).map(rolled).batch(4)
    seen, builder = found(dataset, tmp_path)
    candidate = rules._keep(seen)
    assert candidate is not None and candidate.title == "Cache what work gives"
    assert "shuffle(20) behind it" in candidate.detail and f"{Path(__file__).name}:{work.__code__.co_firstlineno}" in (
        candidate.detail
    )
    assert candidate.expected_s == pytest.approx(3e-3)
    kinds = [node.kind for node in seen.line]
    assert kinds == ["range", "shuffle", "map", "map", "batch"]
    changed = made(candidate, builder)
    first, second = ([value for batch in values(changed) for value in batch] for _ in range(2))
    assert [int(value) for value in first] != [int(value) for value in second]  # still another order each epoch
    assert sorted(int(value) for value in first) == list(range(20))


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: (
            Range(20).map(rolled).batch(4)
        ),  # random from the start: only the source is before it, which costs least
        lambda: tf.data.Dataset.zip((Range(9).shuffle(9), Range(9).shuffle(9))).map(lambda a, b: a + b),
        lambda: Range(9).repeat().map(work).batch(4),  # a cache behind an endless repeat never fills
        lambda: Range(9).map(work).cache().batch(4),
        lambda: Range(9).map(lambda x: tf.py_function(lambda y: y, [x], tf.int64)).batch(3),
    ],
)
def test_no_cache_where_it_would_change_what_is_trained_on(make: Callable[[], Any], tmp_path: Path) -> None:
    candidate = rules._keep(found(make(), tmp_path)[0])
    assert candidate is None or candidate.title == "Cache what range gives"


def test_a_cache_must_fit(tmp_path: Path) -> None:
    seen, _ = found(Range(20).map(lambda x: tf.fill([100], x)).batch(4), tmp_path)
    large = rules._keep(seen)
    small = rules._keep(replace(seen, free_bytes=2_000.0))
    assert large is not None and "lambda x: tf.fill([100], x)" in large.title
    assert small is not None and "range" in small.title
    assert rules._keep(replace(seen, free_bytes=100.0)) is None


@pytest.mark.slow
def test_no_cache_goes_behind_what_says_which_samples_share_a_batch(tmp_path: Path) -> None:
    source = Range(20).shuffle(20).map(lambda x: tf.fill([x % 4], x))
    grouped = (
        source.bucket_by_sequence_length(lambda x: tf.shape(x)[0], [2], [4, 4]),
        source.ragged_batch(4),
        Range(20).map(work).group_by_window(lambda x: tf.cast(x, tf.int64) % 2, lambda _, w: w.batch(4), 4),
        Range(20).map(work).batch(4).rebatch(2),
    )
    for dataset in grouped:
        candidate = rules._keep(found(dataset.prefetch(1), tmp_path)[0])
        assert candidate is not None and candidate.title.startswith(("Cache what lambda", "Cache what work"))
        assert ("it holds 80 B" in candidate.detail) == ("work" in candidate.title)


def test_a_shuffle_that_list_files_makes_is_turned_off(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name)
    dataset = tf.data.Dataset.list_files(f"{tmp_path}/*.txt").map(tf.io.read_file).batch(2)
    candidate = rules._keep(found(dataset, tmp_path)[0])
    assert candidate is not None
    assert "list_files shuffles: pass it shuffle=False, and write .shuffle(3) behind it" in candidate.detail


def test_a_map_goes_behind_its_batch_where_the_numbers_stay(tmp_path: Path) -> None:
    dataset = Range(20).map(tenth).batch(4)
    seen, builder = found(dataset, tmp_path)
    candidate = rules._vectorise(seen)
    assert candidate is not None and candidate.title == "Run tenth on batches"
    assert values(made(candidate, builder)) == values(dataset)
    seen, builder = found(Range(20).map(summed).batch(4), tmp_path)
    with pytest.raises(ValueError, match="other numbers"):
        made(rules._vectorise(seen), builder)
    assert rules._vectorise(found(Range(20).map(rolled).batch(4), tmp_path)[0]) is None


def test_a_last_map_to_floats_can_move_to_the_device(tmp_path: Path) -> None:
    pixels = tf.data.Dataset.from_tensor_slices((np.arange(48, dtype=np.uint8).reshape(6, 8), np.arange(6)))
    dataset = pixels.map(lambda image, label: (tf.cast(image, tf.float32) / 255, label)).batch(2).prefetch(1)
    seen, builder = found(dataset, tmp_path)
    changed = made(rules._normalise_later(seen), builder)
    assert changed.element_spec[0].dtype == tf.uint8
    assert np.array_equal(np.concatenate([image for image, _ in changed]), np.arange(48).reshape(6, 8))
    assert rules._normalise_later(found(pixels.batch(2), tmp_path)[0]) is None
    assert rules._normalise_later(found(Range(9).map(tenth), tmp_path)[0]) is None


def test_maps_in_a_row_are_proposed_as_one(tmp_path: Path) -> None:
    dataset = Range(20).map(work, num_parallel_calls=2).map(tenth, num_parallel_calls=2).batch(4)
    seen, builder = found(dataset, tmp_path)
    assert values(made(rules._fuse_maps(seen), builder)) == values(dataset)
    assert values(made(rules._bound_threads(seen), builder)) == values(dataset)
    assert rules._fuse_maps(found(Range(20).map(work).batch(4), tmp_path)[0]) is None


@pytest.mark.alone
@pytest.mark.slow
def test_the_best_change_is_tried_and_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from greenload.profiling import windows
    from greenload.profiling.tfdata import bounds

    monkeypatch.setattr(bounds, "TRYING_S", 600.0)  # on a busy machine all may come late
    monkeypatch.setattr(windows, "WINDOW_S", 0.02)
    # Which change promises most is up to costs as measured, and the first may be one that can't run.
    monkeypatch.setattr(advice, "RULES", (rules._vectorise, rules._keep))
    report = gl.profile(Range(64).map(work).batch(16), rounds=3, samples=64)
    assert [one.title for one in report.advice] == ["Cache what work gives"]
    best, full = report.advice[0], report.full.cpu_s_per_sample.value
    assert best.method == "trial" and full
    saved = best.saves_cpu_s_per_sample
    assert saved.value is not None and saved.low is not None and saved.low > 0 and saved.value > 0.5 * full
    assert {window.kind for window in report.windows if window.step == best.title} == {"with", "without"}
