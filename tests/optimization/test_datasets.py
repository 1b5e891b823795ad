"""Someone's dataset, improved: what is taken saves and changes nothing, what isn't says why."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from greenload.errors import UsageError
from greenload.optimization import dataset_trials
from greenload.optimization.dataset_improvement import Improvement
from greenload.optimization.datasets import _Search, improve
from greenload.profiling.tfdata.walk import walk

pytestmark = pytest.mark.timeout(900)  # most of a search waits for processors where the machine is busy
ROWS, SIDE = 96, 64


def heavy(image: Any, label: Any) -> Any:
    """Some milliseconds of arithmetic that any change of order would show in."""
    values = tf.cast(image, tf.float32)
    for _ in range(6):
        values = tf.linalg.matmul(values, values) / SIDE
    return tf.tanh(values), label


def made(seed: int = 3) -> tf.data.Dataset:
    random = np.random.default_rng(seed)
    images = random.random((ROWS, SIDE, SIDE), np.float32), np.arange(ROWS)
    return tf.data.Dataset.from_tensor_slices(images).shuffle(ROWS, seed=seed).map(heavy).batch(8).prefetch(1)


@pytest.fixture
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_trials, "WINDOW_S", 0.05)
    monkeypatch.setattr(dataset_trials, "QUICK_S", 0.03)


def same(left: Any, right: Any) -> bool:
    return all(
        np.array_equal(one, other)
        for a, b in zip(left.as_numpy_iterator(), right.as_numpy_iterator(), strict=True)
        for one, other in zip(a, b, strict=True)
    )


@pytest.fixture(scope="module")
def found() -> Improvement:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_trials, "WINDOW_S", 0.05)
        patch.setattr(dataset_trials, "QUICK_S", 0.03)
        seen: list[tuple[float, str]] = []
        result = improve(made(), epochs=20, ram=1e8, seconds=240, progress=lambda *told: seen.append(told), name="rows")
        assert seen[-1] == (1.0, "done") and all(0 <= share <= 1 for share, _ in seen)
        return result


@pytest.mark.slow
def test_a_cache_saves_and_changes_nothing(found: Improvement) -> None:
    first = found.changes[0]
    assert first.title == "Cache what heavy gives" and first.taken
    assert first.saves_cpu_s_per_sample.low is not None and first.saves_cpu_s_per_sample.low > 0
    assert found.share > 0.3
    assert 0 < found.training_share <= found.share + 0.05
    assert found.compared.equal and found.compared.epochs == 2 and found.compared.elements == 2 * ROWS // 8
    assert all(change.lost for change in found.changes if not change.taken)
    dataset, other = made(), made()
    improved = found(other)
    assert improved.element_spec == dataset.element_spec
    assert same(dataset, improved) and same(dataset, improved)  # two epochs, each in its own order


@pytest.mark.slow
def test_it_is_shown_and_saved(found: Improvement) -> None:
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["format"] == "greenload.improvement/1" and data["changes"][0]["taken"] is True
    assert "recipe" not in data and data["compared"]["order"] == "same"
    text = str(found)
    assert "write .cache() behind map(heavy) at test_datasets.py" in text
    assert "equal bit for bit, in the same order" in text
    space: dict[str, Any] = {"heavy": heavy}
    exec(compile(found.source, "improved.py", "exec"), space)
    arguments = [line for line in found.source.splitlines() if "what you have up to" in line]
    assert len(arguments) == 1 and "dataset: what you have up to" in arguments[0]
    random = np.random.default_rng(3)
    source = tf.data.Dataset.from_tensor_slices((random.random((ROWS, SIDE, SIDE), np.float32), np.arange(ROWS)))
    assert same(made(), space["improved"](source))


@pytest.mark.slow
def test_another_dataset_is_refused(found: Improvement) -> None:
    with pytest.raises(UsageError, match="this one has other steps"):
        found(tf.data.Dataset.range(3).batch(2))


@pytest.mark.slow
def test_nothing_is_taken_that_saves_nothing(short_windows: None) -> None:
    dataset = tf.data.Dataset.range(64).map(
        lambda n: tf.random.stateless_uniform((400, 400), (n, 0)) @ tf.ones((400, 40))
    )
    bounded = tf.data.Options()
    bounded.autotune.enabled = False
    bounded.threading.private_threadpool_size = 2
    dataset = dataset.batch(4).with_options(bounded)
    found = improve(dataset, epochs=1, ram=0, seconds=90)
    if not found.recipe:
        assert found(dataset) is dataset and found.source == ""
        assert "no change saves some" in str(found)
    assert not any("Cache" in change.title for change in found.changes)
    assert all(change.taken or change.lost for change in found.changes)


def test_an_empty_dataset_is_refused() -> None:
    with pytest.raises(UsageError, match="this one is empty"):
        improve(tf.data.Dataset.range(0).batch(2), epochs=2, ram=0)


def test_a_dataset_is_not_cut_to_nothing(tmp_path: Path) -> None:
    for skipped, cut in ((9_000, False), (0, True)):
        search: Any = SimpleNamespace(
            root=walk(tf.data.Dataset.range(10_000).skip(skipped)),
            notes=[],
            scratch=str(tmp_path),
            counts=SimpleNamespace(epoch_elements=None, samples_per_element=1.0),
        )
        sources, count = _Search._cut(search)
        assert (bool(sources), count is not None, bool(search.notes)) == (cut, cut, cut)
