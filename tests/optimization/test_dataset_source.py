"""What is printed of a changed dataset is Python that runs, and gives the dataset's own elements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from greenload.energy.figures import Figure
from greenload.optimization.dataset_arrays import rows_of_arrays
from greenload.optimization.dataset_calls import composed, function_text
from greenload.optimization.dataset_changes import Facts, Finder, fused_maps, synchronous
from greenload.optimization.dataset_compare import Comparison
from greenload.optimization.dataset_improvement import Improvement
from greenload.optimization.dataset_moves import in_chunks, on_batches
from greenload.optimization.dataset_nodes import promises_no_order, shared_nodes
from greenload.optimization.dataset_source import source_text
from greenload.profiling.tfdata.counting import Flow
from greenload.profiling.tfdata.walk import walk
from greenload.report.columns import plain_text
from greenload.system.frameworks import tf

ROWS = 20


def double(image: Any, label: Any) -> Any:
    return image * 2.0, label


def bright(image: Any, label: Any) -> Any:
    return image + 0.25, label


def halved(image: Any) -> Any:
    return image * 0.5


def first(element: Any) -> Any:
    return element["image"]


def ragged(image: Any) -> Any:
    return tf.RaggedTensor.from_tensor(image) if image.shape.rank == 2 else image


def images() -> Any:
    return np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)


def pairs() -> Any:
    return tf.data.Dataset.from_tensor_slices((images(), np.arange(ROWS)))


def own_options() -> Any:
    options = tf.data.Options()
    options.deterministic = True
    return options


DATASETS: dict[str, tuple[Finder, Callable[[], Any], Callable[[Any], Any]]] = {
    "two parts, on batches": (
        on_batches,
        lambda: pairs().shuffle(ROWS, seed=3),
        lambda d: d.map(double).map(bright).batch(7, drop_remainder=True),
    ),
    "one part, on batches": (
        on_batches,
        lambda: tf.data.Dataset.from_tensor_slices(images()),
        lambda d: d.map(halved).map(lambda x: x + 1.0).batch(7),
    ),
    "padded": (
        on_batches,
        lambda: tf.data.Dataset.from_tensor_slices(images()),
        lambda d: d.map(halved).map(ragged).padded_batch(7),
    ),
    "fused": (fused_maps, pairs, lambda d: d.map(double).map(bright).with_options(own_options()).batch(4)),
    "chunks": (in_chunks, pairs, lambda d: d.map(double).map(bright)),
    "what pads": (
        synchronous,
        lambda: tf.data.Dataset.from_tensor_slices(images()),
        lambda d: d.map(halved).shard(2, 1).padded_batch(3, padded_shapes=[5], padding_values=-1.0),
    ),
}


def facts_of(root: Any) -> Facts:
    return Facts(
        root=root,
        flows={node.name: Flow(1.0, 8.0) for node in root.nodes()},
        epoch_samples=float(ROWS),
        epochs=3,
        ram=1e9,
        threads=2,
        drawn=frozenset(),
        shared=shared_nodes(root),
        free_order=promises_no_order(root),
    )


def elements(dataset: Any) -> list[list[Any]]:
    return [[part.numpy().tolist() for part in tf.nest.flatten(element)] for _ in range(2) for element in dataset]


@pytest.mark.parametrize("name", DATASETS)
def test_the_printed_code_gives_the_same_elements(name: str) -> None:
    finder, source, later = DATASETS[name]
    root = walk(later(source()))
    texts = []
    for change in finder(root, facts_of(root)):
        tree = change.apply(root)
        assert tree is not None
        texts.append(source_text(root, tree, ["The same."]))
    assert texts
    for text in texts:
        if ".map(double) at" in text or ".map(halved) at" in text:  # it begins behind the first map
            continue
        space = {one.__name__: one for one in (double, bright, halved, ragged)}
        exec(compile(text, "improved.py", "exec"), space)
        given = [own_options()] if "your_options:" in text else []
        improved: Any = space["improved"]
        assert elements(improved(source(), *given)) == elements(later(source())), text


def test_the_printed_code_fetches_rows_of_arrays_in_their_structure() -> None:
    arrays = {"image": images(), "label": np.arange(ROWS)}
    dataset = tf.data.Dataset.from_tensor_slices(arrays).shuffle(ROWS, seed=5).batch(6).map(first)
    root = walk(dataset)
    (change,) = rows_of_arrays(root, facts_of(root))
    tree = change.apply(root)
    assert tree is not None
    space: dict[str, Any] = {"first": first}
    exec(compile(source_text(root, tree, ["The same."]), "improved.py", "exec"), space)
    assert elements(space["improved"](arrays)) == elements(dataset)


def test_what_is_padded_otherwise_than_with_zeros_is_not_batched_first() -> None:
    for how in ({"padding_values": -1.0}, {"padded_shapes": [5]}):
        root = walk(tf.data.Dataset.from_tensor_slices(images()).map(halved).padded_batch(7, **how))
        assert not list(on_batches(root, facts_of(root)))


def test_functions_without_a_name_are_called_in_words() -> None:
    class Takes:
        _input_structure = (1, 2)

    assert [function_text(name) for name in ("a.b", "lambda x: x", "to sequence #2", "#", "lambda")] == [
        "a.b", "(lambda x: x)", "to_sequence_2", "function", "function",
    ]  # fmt: skip
    assert composed(["f", "lambda a, b: a"], [Takes(), Takes()]) == "lambda *element: (lambda a, b: a)(*f(*element))"


def test_what_is_said_above_the_code_is_a_docstring_whatever_it_holds() -> None:
    root = walk(pairs().map(double).map(bright))
    (change,) = fused_maps(root, facts_of(root))
    tree = change.apply(root)
    assert tree is not None
    text = source_text(root, tree, ["The same.", r'- a lambda: "\d" and """: ' + "many words " * 40])
    space: dict[str, Any] = {}
    exec(compile(text, "improved.py", "exec"), space)
    assert r'"\d" and """:' in space["improved"].__doc__
    assert max(map(len, text.splitlines())) <= 120


def test_the_printed_code_is_not_broken_on_a_narrow_screen() -> None:
    wide = "    dataset = dataset.shuffle(256, seed=3)  # moved: the same order, whatever stands here\n"
    shown = plain_text(improvement("def improved(dataset):\n" + wide).render(), 40)
    assert wide.rstrip() in shown.splitlines()


def improvement(source: str) -> Improvement:
    nothing = Figure.missing()
    return Improvement(
        created="2026-01-01T00:00:00Z",
        greenload="1",
        name="d",
        epochs=2,
        ram_bytes=0.0,
        threads=1,
        demand=None,
        now_cpu_s_per_sample=nothing,
        improved_cpu_s_per_sample=nothing,
        saves_cpu_s_per_sample=nothing,
        first_epoch_cpu_s_per_sample=(None, None),
        samples_per_s=(1.0, 1.0),
        changes=(),
        compared=Comparison(elements=0, epochs=0, order="same"),
        sample="rows",
        source=source,
    )


def test_a_dataset_of_known_length_keeps_it() -> None:
    dataset = pairs().map(double).map(bright)
    root = walk(dataset)
    (change,) = in_chunks(root, facts_of(root))
    nodes = tuple((node.kind, node.name) for node in root.nodes())
    found = replace(improvement(""), recipe=(change,), nodes=nodes)
    assert len(found(dataset)) == ROWS
    assert elements(found(dataset)) == elements(dataset)


def test_each_of_several_arrays_is_an_argument_of_its_own() -> None:
    arrays = images(), images()[::-1].copy()
    dataset = tf.data.Dataset.zip(tuple(tf.data.Dataset.from_tensor_slices(one).batch(4) for one in arrays))
    root = walk(dataset)
    (change,) = rows_of_arrays(root, facts_of(root))
    tree = change.apply(root)
    assert tree is not None
    space: dict[str, Any] = {}
    exec(compile(source_text(root, tree, ["The same."]), "improved.py", "exec"), space)
    assert elements(space["improved"](*arrays)) == elements(dataset)
