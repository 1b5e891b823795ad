"""Array operations: the same bits in NumPy and in TensorFlow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenload.array_ops import NUMPY, TENSORFLOW, exp, sin_cos
from greenload.backends.native import op
from greenload.backends.native.array_recorder import computed


@given(st.floats(-3, 3))
@settings(max_examples=300, deadline=None)
def test_exp_is_accurate(x: float) -> None:
    assert float(exp(np.float64(x))) == pytest.approx(float(np.exp(x)), rel=2e-14)


def test_exp_is_bit_equal_in_tensorflow() -> None:
    tf = pytest.importorskip("tensorflow")
    x = np.linspace(-3, 3, 1_000_003)
    compiled = tf.function(lambda y: exp(y, TENSORFLOW))
    assert exp(x).tobytes() == compiled(tf.constant(x)).numpy().tobytes()


@given(st.floats(-1e6, 1e6))
@settings(max_examples=200, deadline=None)
def test_sine_and_cosine_are_the_published_functions(degrees: float) -> None:
    sine, cosine = sin_cos(np.float64(degrees))
    exact = math.radians(math.fmod(degrees, 360.0))
    assert sine == pytest.approx(math.sin(exact), abs=2e-15)
    assert cosine == pytest.approx(math.cos(exact), abs=2e-15)


OPERATIONS = {
    "rint": lambda o: o.rint(o.f64(np.array([-1.5, -0.5, 0.5, 1.5, 2.5, 2.4999999]))),
    "floor": lambda o: o.floor(o.f64(np.array([-1.5, -0.0, 0.999, 3.0]))),
    "argmax": lambda o: o.argmax(o.f64(np.array([[0.0, 1, 1], [0, 0, 0]])) > 0.0, 1),
    "any": lambda o: o.any(o.f64(np.array([[0.0, 1, 1], [0, 0, 0]])) > 0.0, 1),
    "pick": lambda o: o.pick(o.f64(np.arange(12.0).reshape(2, 2, 3)), o.i64(np.array([[0, 2], [1, 1]]))),
    "take": lambda o: o.take(o.i64(np.array([5, 6, 7])), o.i64(np.array([2, 0]))),
    "positions": lambda o: o.positions(o.f64(np.ones((3, 2)))),
    "count_up_to": lambda o: o.count_up_to(np.array([0.1, 0.5, 0.5, 2.0]), o.f64(np.array([0.5, 0.0, 3.0, 0.1]))),
    "concat": lambda o: o.concat([o.f64(np.zeros((2, 1))), o.f64(np.ones((2, 2)))], -1),
    "stack": lambda o: o.stack([o.f64(np.zeros(2)), o.f64(np.ones(2))], -1),
    "where": lambda o: o.where(o.f64(np.arange(3.0)) > 1.0, o.f64(np.ones(3)), o.f64(np.zeros(3))),
    "shift": lambda o: o.shift_right(o.u64(np.array([2**64 - 1], np.uint64)), 11),
    "xor": lambda o: o.xor(o.u64(np.array([5])), o.u64(np.array([3]))),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_mean_the_same_in_tensorflow(name: str) -> None:
    pytest.importorskip("tensorflow")
    operation = OPERATIONS[name]
    assert np.array_equal(operation(NUMPY), np.asarray(operation(TENSORFLOW)))


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_mean_the_same_as_one_operation_of_the_kernel(name: str) -> None:
    if not op.usable():
        pytest.skip("the kernel's operations for TensorFlow can't be used here")
    operation = OPERATIONS[name]
    words = name in ("shift", "xor")
    (found,) = computed(lambda ops: [ops.i64(operation(ops)) if words else operation(ops)])
    assert np.array_equal(operation(NUMPY), found.numpy())
