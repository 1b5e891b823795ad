"""Array programs: recorded functions give NumPy's bits, whatever they do, and what isn't a program is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenload as gl
from greenload import randomness
from greenload.array_ops import NUMPY, Array, Ops
from greenload.backends.native import op
from greenload.backends.native.array_recorder import computed, recorded
from greenload.system.frameworks import tf

pytestmark = pytest.mark.skipif(not op.usable(), reason="the kernel's operations for TensorFlow can't be used here")

Binary = Callable[[Ops, Array, Array], Array]
FLOATS: list[Binary] = [
    lambda ops, a, b: a + b,
    lambda ops, a, b: a - b * 0.5,
    lambda ops, a, b: 1.0 - a * b,
    lambda ops, a, b: a / (b * b + 1.0),
    lambda ops, a, b: ops.where(a < b, a, -b),
    lambda ops, a, b: ops.where((a >= b) | ~(a != 0.0), ops.floor(a * 3.0), ops.rint(b)),
    lambda ops, a, b: ops.minimum(a, ops.maximum(b, a * 2.0)),
    lambda ops, a, b: ops.sqrt(a * a) + ops.f64(ops.i64(b * 7.0) // 3 - ops.i64(a * 5.0) % 4),
    lambda ops, a, b: ops.concat([a[:, :1], b[:, 1:]], axis=-1),
    lambda ops, a, b: ops.stack([a[..., 0], b[..., -1], a[..., 1]], axis=-1),
    lambda ops, a, b: a[:, None, :][..., 0, :] * b[:, 2:][..., None][..., 0],
    lambda ops, a, b: ops.where(ops.any(a > b, axis=-1)[..., None], a, b[:1] + 1.0),
    lambda ops, a, b: a + ops.f64(ops.argmax(a > b, axis=-1))[..., None],
    lambda ops, a, b: a * ops.pick(b, ops.i64(ops.positions(a) % 3))[..., None],
    lambda ops, a, b: ops.take(np.arange(12.0).reshape(4, 3), ops.i64(ops.positions(b) % 4)) - a,
    lambda ops, a, b: ops.f64(ops.argsort(a)) + ops.f64(ops.count_up_to(np.array([-1.0, 0.0, 0.5]), b)),
    lambda ops, a, b: ops.f64(ops.shift_right(randomness.mix(ops.u64(ops.i64(a)), ops), 40)) - b,
    lambda ops, a, b: ops.f64(randomness.permute(ops.positions(a), 6, 3, ops.i64(b)[0, 0], ops))[..., None] + a,
]
"""Functions of two float64 arrays ``[6, 3]`` to one."""


@st.composite
def functions(draw: st.DrawFn) -> Callable[[Ops, Array, Array], list[Array]]:
    """Many operations one after another, each on two of all results so far."""
    count = draw(st.integers(1, 12))
    steps = [
        (draw(st.sampled_from(FLOATS)), draw(st.integers(0, k + 1)), draw(st.integers(0, k + 1))) for k in range(count)
    ]
    given_back = draw(st.sets(st.integers(0, count + 1), min_size=1))

    def function(ops: Ops, a: Array, b: Array) -> list[Array]:
        values = [a, b]
        for step, first, second in steps:
            values.append(ops.minimum(ops.maximum(step(ops, values[first], values[second]), -1e6), 1e6))
        return [values[k] for k in sorted(given_back)]

    return function


@given(functions(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_any_function_has_the_bits_of_numpy(function: Callable[..., list[Array]], seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = np.round(random.normal(size=(2, 6, 3)) * 4) * random.choice([0.25, 1.0, 1e3])
    found = computed(function, tf.constant(a), tf.constant(b))
    for got, expected in zip(found, function(NUMPY, a, b), strict=True):
        assert got.numpy().tobytes() == np.ascontiguousarray(expected).tobytes()


def test_what_happens_twice_is_recorded_once_and_what_nobody_needs_is_left_out() -> None:
    def function(ops: Ops, a: Array) -> list[Array]:
        ops.sqrt(a)
        return [ops.floor(a * 2.0) + ops.floor(a * 2.0)]

    once = recorded(lambda ops, a: [(doubled := ops.floor(a * 2.0)) + doubled], [("float64", 1)])
    assert recorded(function, [("float64", 1)]) == once


@pytest.mark.parametrize(
    "function",
    [
        lambda ops, a: [a if a[0] > 0.0 else -a],
        lambda ops, a: [a + ops.i64(a)],
        lambda ops, a: [ops.i64(a) * 0.5],
        lambda ops, a: [ops.cast(a, "float32")],
        lambda ops, a: [a[::2]],
        lambda ops, a: [sum(a)],
        lambda ops, a: [a & a],
        lambda ops, a: [ops.where(a, a, a)],
    ],
)
def test_what_no_program_can_do_is_not_recorded(function: Any) -> None:
    with pytest.raises(TypeError):
        recorded(function, [("float64", 1)])


def test_what_only_tensorflow_and_numpy_can_do_is_left_to_tensorflow() -> None:
    def function(ops: Ops, a: Array) -> list[Array]:
        return [ops.library.abs(a) ** 2 + a % 0.5]

    values = np.array([-1.75, 0.0, 3.0])
    (found,) = computed(function, tf.constant(values))
    assert np.array_equal(found.numpy(), function(NUMPY, values)[0])
    with pytest.raises(ZeroDivisionError):
        computed(lambda ops, a: [a * (1 // 0)], tf.constant(values))


def test_arrays_that_do_not_fit_are_refused_while_it_runs() -> None:
    values = tf.constant([1.0, 2.0, 3.0], tf.float64)
    for function in (
        lambda ops, a: [a + np.arange(2.0)],
        lambda ops, a: [a[..., 7]],
        lambda ops, a: [ops.take(a, ops.i64(a))],
        lambda ops, a: [ops.i64(ops.walk(lambda x: x, ops.u64(a), np.uint64(1)))],
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match="greenload: "):
            computed(function, values)


def test_words_that_are_no_program_are_refused_and_none_reads_beyond_its_arrays() -> None:
    def order(ops: Ops, a: Array) -> list[Array]:
        index = randomness.permute(ops.i64(a), 4, 3, ops.i64(a)[0], ops)
        return [index, ops.take(np.arange(5.0), index), ops.concat([a, a[:1]], 0), a > 1.0]

    program = recorded(order, [("float64", 1)])
    values, random = tf.range(4, dtype=tf.float64), np.random.default_rng(4)
    words = np.frombuffer(program.words, np.int64)
    refused = 0
    for _ in range(1500):
        changed = words.copy()
        changed[random.integers(len(words))] = random.choice([-1, 0, 1, 2, 5, 36, 99, 2**40, -(2**63)])
        cut = changed[: random.integers(len(words))] if random.random() < 0.2 else changed
        try:
            op.operations().greenload_arrays(inputs=[values], outputs_types=program.dtypes, program=cut.tobytes())
        except tf.errors.OpError as error:
            refused += "greenload: " in str(error)
    assert refused > 500


def test_a_graph_does_not_grow_with_what_stages_draw(sample_folder: Path) -> None:
    def operations(*stages: gl.Stage) -> tuple[int, set[str]]:
        source = gl.ImageFolder(sample_folder)
        pipeline = gl.Pipeline(source, gl.Shuffle(), gl.Decode(), gl.RandomResizedCrop(32), *stages, gl.Batch(4))
        variant = gl.load(pipeline, backend="native")._variant_tensor
        graph = tf.raw_ops.DatasetToGraphV2(input_dataset=variant, external_state_policy=0)
        read = tf.compat.v1.GraphDef.FromString(graph.numpy())
        nodes = [node.op for function in read.library.function for node in function.node_def]
        return len(nodes), set(nodes)

    few, names = operations(gl.RandomHorizontalFlip())
    many, _ = operations(gl.RandAugment(), gl.ColorJitter(0.3), gl.RandomRotation(10))
    assert "GreenloadArrays" in names and not names & {"While", "StatelessWhile", "BitwiseXor"}
    assert many <= few + 5
