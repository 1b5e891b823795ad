"""A dataset built again gives the same elements, and the user's own goes on as if nothing had happened."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

tf = pytest.importorskip("tensorflow")

from dataset_cases import CASES, Range, elements, numbers, records  # noqa: E402

from greenload.profiling.tfdata.graph import Node  # noqa: E402
from greenload.profiling.tfdata.rebuild import Builder  # noqa: E402
from greenload.profiling.tfdata.walk import walk  # noqa: E402


def plus(x: Any, k: int) -> Any:
    """Adds."""
    return x + k


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_copy_gives_the_same_and_leaves_the_original_as_it_was(case: str, tmp_path: Path) -> None:
    make = CASES[case]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    dataset = make(tmp_path)
    root = walk(dataset)
    assert all(node.known for node in root.nodes() if not node.hidden and node.kind != "selector")
    copy = Builder(str(scratch), 2).build(root)
    assert copy.element_spec == dataset.element_spec
    first, second = elements(copy), elements(copy)
    assert first
    assert not list(tmp_path.glob("never written*"))
    fresh = make(tmp_path)
    assert (elements(dataset), elements(dataset)) == (first, second)  # seeds and epochs as if never run
    assert elements(fresh) == first


def test_functions_are_not_traced_again(tmp_path: Path) -> None:
    calls = []

    def parse(x: Any) -> Any:
        calls.append(1)
        return x + 1

    root = walk(Range(5).map(parse).filter(lambda x: x > 1).interleave(lambda n: Range(n).map(parse), cycle_length=1))
    traced = len(calls)
    builder = Builder(str(tmp_path))
    assert elements(builder.build(root))
    inside = root.looked[-1]
    assert inside.name == "parse" or inside.name.startswith("parse (")
    assert elements(inside.inner.prefix(builder.build(root.inputs[0])))
    assert len(calls) == traced


def test_a_table_and_a_captured_tensor_come_along(tmp_path: Path) -> None:
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b"]), tf.constant([1, 2])), 0
    )
    shift = tf.constant(10)
    dataset = tf.data.Dataset.from_tensor_slices(["a", "b", "c"]).map(lambda word: table.lookup(word) + shift)
    assert elements(Builder(str(tmp_path)).build(walk(dataset))) == ["[11]", "[12]", "[10]"]


def rows(root: Node) -> list[tuple[str, str, str]]:
    """Name, kind, branch of the nodes that have a row."""
    return [(node.name, node.kind, node.branch) for node in root.nodes() if not node.hidden]


def test_branches_have_rows_of_their_own() -> None:
    two = tf.data.Dataset.zip((Range(5).shuffle(2), Range(5).map(lambda x: x, name="twin")))
    assert rows(walk(two.batch(2))) == [
        ("range", "range", "zip 1"),
        ("shuffle", "shuffle", "zip 1"),
        ("range (2)", "range", "zip 2"),
        ("twin", "map", "zip 2"),
        ("batch", "batch", ""),
    ]
    drawn = tf.data.Dataset.sample_from_datasets([Range(5), Range(3)], seed=1)
    assert rows(walk(drawn)) == [
        ("sample_from_datasets", "selector", "choose"),
        ("range", "range", "choose 1"),
        ("range (2)", "range", "choose 2"),
    ]
    assert rows(walk(Range(5).enumerate().map(plus_pair))) == [("range", "range", ""), ("plus_pair", "map", "")]


def plus_pair(n: Any, x: Any) -> Any:
    """Adds."""
    return n + x


def parse(record: Any) -> Any:
    """How long a record is."""
    return tf.strings.length(record)


def test_an_interleave_shows_what_is_inside(tmp_path: Path) -> None:
    files = tf.data.Dataset.from_tensor_slices(records(tmp_path))
    root = walk(
        files.interleave(lambda file: tf.data.TFRecordDataset(file).map(parse, num_parallel_calls=2), cycle_length=2)
    )
    assert rows(root) == [
        ("from_tensor_slices", "from_tensor_slices", ""),
        ("tfrecords", "tfrecords", "interleave"),
        ("parse", "map", "interleave"),
    ]
    assert root.looked[1].where.startswith("test_rebuild.py:")
    builder = Builder(str(tmp_path))
    read = root.looked[0].inner.prefix(builder.build(root.inputs[0]))
    assert len(elements(read)) == 15 and len(elements(builder.on(root.looked[1], [read]))) == 15
    assert not walk(Range(3).flat_map(lambda n: Range(9).concatenate(Range(n)))).looked


class Cropping:
    """Has a method, and can be called."""

    def crop(self, x: Any) -> Any:
        """Does nothing."""
        return x

    def __call__(self, x: Any) -> Any:
        return x


def test_steps_are_named_by_the_users_functions() -> None:
    import keras

    def inner(x: Any) -> Any:
        return x

    cases = {
        "plus": functools.partial(plus, k=tf.constant(1, tf.int64)),
        "inner": inner,
        "lambda x: (x, 1)": lambda x: (x, 1),
        "plus_one": tf.function(plus_one),
        "Cropping.crop": Cropping().crop,
        "Cropping": Cropping(),
        "twice": keras.layers.Rescaling(2.0, name="twice"),
        "tf.math.abs": tf.abs,
    }
    for name, function in cases.items():
        node = walk(Range(3).map(function))
        assert node.name == name
        assert node.where.startswith("test_rebuild.py:"), name
    assert walk(Range(3).map(inner, name="given")).name == "given"
    assert walk(tf.data.Dataset.from_generator(numbers, output_signature=tf.TensorSpec((), tf.int32))).name == "numbers"


def plus_one(x: Any) -> Any:
    """Adds one."""
    return x + 1
