"""Changes to datasets: each leaves the elements as they are, or is refused by the comparison."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from greenload.optimization.dataset_arrays import rows_of_arrays
from greenload.optimization.dataset_changes import (
    Change,
    Facts,
    bounded_threads,
    fused_maps,
    one_prefetch,
    rewritten,
    synchronous,
)
from greenload.optimization.dataset_compare import Comparer, Comparison
from greenload.optimization.dataset_moves import caches, in_chunks, on_batches
from greenload.optimization.dataset_nodes import TreeBuilder, promises_no_order, shared_nodes
from greenload.optimization.dataset_source import source_text
from greenload.profiling.tfdata.counting import count_elements
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.rebuild import Builder
from greenload.profiling.tfdata.remarks import drawn_while_traced
from greenload.profiling.tfdata.walk import walk

CALLS: list[str] = []


@pytest.fixture
def scratch() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def facts_of(root: Node, scratch: str, **given: Any) -> Facts:
    counts = count_elements(root, Builder(scratch), 64, lambda: None)
    known: dict[str, Any] = {
        "root": root,
        "flows": {node.name: flow for node, flow in counts.flows.items()},
        "epoch_samples": (counts.epoch_elements or 0) * counts.samples_per_element or None,
        "epochs": 10,
        "ram": 1e9,
        "threads": 2,
        "drawn": frozenset(node.name for node in drawn_while_traced(root)),
        "shared": shared_nodes(root),
        "free_order": promises_no_order(root),
    }
    return Facts(**known | given)


def compared(root: Node, changed: Node, scratch: str, free_order: bool = False) -> Comparison:
    comparer = Comparer(root, {}, 30.0, free_order, lambda: None, lambda: tempfile.mkdtemp(dir=scratch))
    return comparer.compare(changed)


def only(changes: Any) -> Change:
    (change,) = list(changes)
    return change  # type: ignore[no-any-return]


def kinds(root: Node) -> list[str]:
    return [node.kind for node in root.nodes()]


def decoded(number: Any) -> Any:
    """Stands for a decode: several rows of floats for each number."""
    return tf.reshape(tf.cast(number, tf.float32) + tf.range(12.0), (3, 4)), number


def test_a_cache_takes_the_shuffle_behind_it_in_the_same_order(scratch: str) -> None:
    dataset = tf.data.Dataset.range(50).shuffle(20, seed=7).map(decoded, num_parallel_calls=2).batch(8).prefetch(2)
    root = walk(dataset)
    change = only(caches(root, facts_of(root, scratch)))
    changed = change.apply(root)
    assert changed is not None
    assert kinds(changed) == ["range", "map", "cache", "shuffle", "batch", "prefetch"]
    result = compared(root, changed, scratch)
    assert result.equal and result.elements == 14 and result.epochs == 2 and result.order == "same"
    assert change.ram_bytes == pytest.approx(50 * (48 + 8))
    assert "shuffle(20) behind it: it gives the order that it gives now" in change.detail


def test_another_order_is_noticed(scratch: str) -> None:
    root = walk(tf.data.Dataset.range(50).shuffle(20, seed=7).map(decoded).batch(8))
    other = walk(tf.data.Dataset.range(50).shuffle(20, seed=8).map(decoded).batch(8))
    assert compared(root, other, scratch).differs == "element 1 is another one"
    assert compared(root, other, scratch, free_order=True).equal
    fewer = walk(tf.data.Dataset.range(49).shuffle(20, seed=7).map(decoded).batch(8))
    assert not compared(root, fewer, scratch).equal
    assert compared(root, fewer, scratch, free_order=True).differs == "an epoch has other samples"


def test_a_cache_that_freezes_the_second_epoch_is_noticed(scratch: str) -> None:
    dataset = tf.data.Dataset.range(40).shuffle(40)
    frozen = walk(dataset.cache().batch(8))
    assert not compared(walk(dataset.batch(8)), frozen, scratch).equal


def test_a_shuffle_without_a_seed_gets_the_same_one_for_the_comparison(scratch: str) -> None:
    root = walk(tf.data.Dataset.range(50).shuffle(20).map(decoded).batch(8))
    changed = only(caches(root, facts_of(root, scratch))).apply(root)
    assert changed is not None and compared(root, changed, scratch).equal


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.data.Dataset.range(30).map(lambda n: tf.random.uniform(()) + tf.cast(n, tf.float32)).batch(5),
        lambda: tf.data.Dataset.range(30).shuffle(9).take(20).map(decoded).batch(5).map(lambda x, _: x),
        lambda: tf.data.Dataset.range(30).shuffle(9).filter(lambda n: n % 2 == 0).map(decoded).batch(5),
        lambda: tf.data.Dataset.range(30).repeat().map(decoded).batch(5).take(9),
        lambda: tf.data.Dataset.range(30).map(lambda n: tf.numpy_function(lambda a: a, [n], tf.int64)).batch(5),
    ],
)
def test_nothing_random_comes_before_a_cache(make: Callable[[], tf.data.Dataset], scratch: str) -> None:
    root = walk(make())
    assert not list(caches(root, facts_of(root, scratch)))


def test_a_cache_keeps_to_its_memory_and_needs_a_second_epoch(scratch: str) -> None:
    root = walk(tf.data.Dataset.range(50).map(lambda n: n + 1).map(decoded).batch(8))
    assert "batch" in only(caches(root, facts_of(root, scratch))).title
    small = only(caches(root, facts_of(root, scratch, ram=500.0)))
    assert small.ram_bytes == 400 and "lambda" in small.title
    assert not list(caches(root, facts_of(root, scratch, ram=100.0)))
    assert not list(caches(root, facts_of(root, scratch, epochs=1)))


def test_where_no_order_is_promised_samples_are_compared(scratch: str) -> None:
    def numbers(file: Any) -> Any:
        return tf.data.Dataset.range(file * 10, file * 10 + 10)

    unordered = tf.data.Options()
    unordered.deterministic = False
    files = tf.data.Dataset.range(4).shuffle(4, seed=3)
    dataset = files.interleave(numbers, cycle_length=2, num_parallel_calls=2).map(decoded, num_parallel_calls=2)
    dataset = dataset.with_options(unordered).shuffle(16).batch(8)
    root = walk(dataset)
    facts = facts_of(root, scratch)
    assert facts.free_order
    change = only(caches(root, facts))
    changed = change.apply(root)
    assert changed is not None
    result = compared(root, changed, scratch, free_order=True)
    assert result.equal and result.order == "any"
    first, second = ([tuple(row) for row in np.concatenate([b[1] for b in epoch]).reshape(-1, 8).tolist()]
                     for epoch in ([list(built.as_numpy_iterator()) for _ in range(2)]
                                   for built in [TreeBuilder(None).build(changed)]) for epoch in epoch)  # fmt: skip
    assert first != second


def scaled(image: Any, label: Any) -> Any:
    return tf.cast(image, tf.float32) * 0.5, label


def mean_free(image: Any, label: Any) -> Any:
    return tf.cast(image, tf.float32) - tf.reduce_mean(tf.cast(image, tf.float32)), label


def halved(image: Any, label: Any) -> Any:
    return image[:2], label


def arrays() -> Any:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (53, 4, 4, 3)).astype(np.uint8), random.integers(0, 9, 53)


@pytest.mark.parametrize(
    "function, equal",
    [(scaled, [True, True]), (mean_free, [False, None]), (halved, [False, True])],
)
def test_maps_run_on_batches_only_where_the_numbers_stay(
    function: Any, equal: Sequence[bool | None], scratch: str
) -> None:
    root = walk(tf.data.Dataset.from_tensor_slices(arrays()).map(function).shuffle(30, seed=1).batch(8))
    changes = list(on_batches(root, facts_of(root, scratch)))
    assert len(changes) == 2 and changes[0].instead == changes[1].instead
    for change, expected in zip(changes, equal, strict=True):
        changed = change.apply(root)
        assert changed is not None
        if expected is not None:
            assert compared(root, changed, scratch).equal == expected


def test_words_are_looked_up_batch_by_batch(scratch: str) -> None:
    keys = tf.constant(["a", "b", "c"])
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(keys, tf.range(2, 5, dtype=tf.int64)), default_value=1
    )
    lines = ["a b c", "b", "C a z", "c c c c", "a"] * 5

    def split(line: Any) -> Any:
        return tf.strings.split(tf.strings.lower(line))

    dataset = tf.data.Dataset.from_tensor_slices(lines).map(split).map(table.lookup).padded_batch(4)
    root = walk(dataset)
    changed = only(on_batches(root, facts_of(root, scratch))).apply(root)
    assert changed is not None
    assert compared(root, changed, scratch).equal
    assert kinds(changed) == ["from_tensor_slices", "batch", "batched"]


def test_rows_of_arrays_are_fetched_by_their_numbers(scratch: str) -> None:
    dataset = tf.data.Dataset.from_tensor_slices(arrays()).shuffle(100, seed=5).repeat(2).batch(8, drop_remainder=True)
    root = walk(dataset)
    changed = only(rows_of_arrays(root, facts_of(root, scratch))).apply(root)
    assert changed is not None
    assert compared(root, changed, scratch).equal
    assert "from_tensor_slices" not in kinds(changed)


def test_rows_of_all_arrays_are_one_change(scratch: str) -> None:
    one, other = (tf.data.Dataset.from_tensor_slices(arrays()).shuffle(60, seed=seed).batch(8) for seed in (1, 2))
    root = walk(tf.data.Dataset.zip((one, other)).map(lambda a, b: (a[0] + b[0], a[1])))
    changed = only(rows_of_arrays(root, facts_of(root, scratch))).apply(root)
    assert changed is not None
    assert compared(root, changed, scratch).equal
    assert kinds(changed).count("fetch") == 2


def test_small_maps_run_in_chunks(scratch: str) -> None:
    dataset = tf.data.Dataset.range(150).map(lambda n: n * 3).map(lambda n: (n, n + 1)).filter(lambda n, _: n % 2 == 0)
    root = walk(dataset.batch(4))
    changed = only(in_chunks(root, facts_of(root, scratch))).apply(root)
    assert changed is not None
    assert compared(root, changed, scratch).equal


def test_the_rest_leaves_elements_as_they_are_and_adds_up(scratch: str) -> None:
    def bright(image: Any, label: Any) -> Any:
        return tf.image.random_brightness(image[:, ::-1], 0.3), label

    dataset = tf.data.Dataset.from_tensor_slices(arrays()).map(scaled, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.map(bright, num_parallel_calls=tf.data.AUTOTUNE).prefetch(4).batch(8).prefetch(tf.data.AUTOTUNE)
    root = walk(dataset)
    facts = facts_of(root, scratch)
    tree, titles = root, []
    for finder in (rewritten, fused_maps, one_prefetch, bounded_threads, synchronous):
        for change in finder(tree, facts):
            alone = change.apply(root)
            assert alone is None or compared(root, alone, scratch).equal, change.title
            changed = change.apply(tree)
            if changed is not None:
                tree = changed
                titles.append(change.title)
    assert len(titles) >= 5
    assert compared(root, tree, scratch).equal
    assert kinds(tree).count("map") == 1 and kinds(tree).count("prefetch") == 1
    text = source_text(root, tree, ["The same.", "More."])
    compile(text, "improved.py", "exec")
    assert "bright(*scaled(*element))" in text and "private_threadpool_size" in text


def test_a_function_is_not_called_again_to_be_rewritten(scratch: str) -> None:
    CALLS.clear()

    def flip(image: Any, label: Any) -> Any:
        CALLS.append("traced")
        return image[:, ::-1], label

    root = walk(tf.data.Dataset.from_tensor_slices(arrays()).map(flip).batch(4))
    traced = len(CALLS)
    changed = only(rewritten(root, facts_of(root, scratch))).apply(root)
    assert changed is not None and compared(root, changed, scratch).equal
    assert len(CALLS) == traced


def test_a_dataset_that_stands_twice_is_left_alone(scratch: str) -> None:
    images = tf.data.Dataset.from_tensor_slices(arrays()).shuffle(9, seed=1).batch(8)
    root = walk(tf.data.Dataset.zip((images, images)))
    facts = facts_of(root, scratch)
    assert not list(rows_of_arrays(root, facts))
    assert functools.reduce(lambda count, _: count + 1, on_batches(root, facts), 0) == 0


def test_a_dataset_without_an_end_is_compared_as_far_as_two_epochs(scratch: str) -> None:
    root = walk(tf.data.Dataset.range(40).shuffle(9, seed=2).map(decoded).repeat().batch(8))
    changed = only(caches(root, facts_of(root, scratch, epoch_samples=40.0))).apply(root)
    assert changed is not None and "repeat" in kinds(changed)
    comparer = Comparer(root, {}, 30.0, False, lambda: None, lambda: tempfile.mkdtemp(dir=scratch), most=10)
    result = comparer.compare(changed)
    assert result.equal and result.elements == 20


def test_no_cache_keeps_what_a_variable_has_a_part_in(scratch: str) -> None:
    strength = tf.Variable(1.0)  # that a callback assigns between epochs
    before = tf.data.Dataset.range(16).map(decoded)
    root = walk(before.map(lambda image, label: (image * strength, label)).batch(4))
    change = only(caches(root, facts_of(root, scratch)))
    assert change.title == "Cache what decoded gives"
    changed = change.apply(root)
    assert changed is not None
    built = TreeBuilder(None).build(changed)
    first = [image.numpy() for image, _ in built]
    strength.assign(2.0)
    assert all((later.numpy() == 2.0 * one).all() for one, (later, _) in zip(first, built, strict=True))
