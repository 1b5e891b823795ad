"""`demand`: a Keras model's training rate, and that measuring it leaves no trace."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.training.demand import FIRST_CALLS, WINDOWS, _Clock, rate
from greenload.training.made_batch import made_batch

pytestmark = pytest.mark.slow
QUICK: dict[str, Any] = {"seconds": 0.2}
"""Steps are as many as fit, warm-up included, in a quarter of a second."""


def images_model(**compiled: Any) -> Any:
    """Convolution, batch normalisation, dropout: everything that a step changes."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(5, activation="softmax"),
        ]
    )
    model.compile(
        **({"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]} | compiled)
    )
    return model


def states(model: Any) -> list[Any]:
    """All that a training step may change: the model's, and global generators'."""
    import tensorflow as tf

    owned = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    numpy_state: Any = np.random.get_state()
    drawn = [random.getstate(), numpy_state[1].tolist(), numpy_state[2]]
    tf_state = tf.random.get_global_generator().state.numpy().tolist()
    return [[np.array(variable.numpy()) for variable in owned], drawn, tf_state]


def same(one: list[Any], other: list[Any]) -> bool:
    """Whether two of `states` are equal."""
    arrays = len(one[0]) == len(other[0]) and all(map(np.array_equal, one[0], other[0]))
    return arrays and one[1:] == other[1:]


def test_a_rate_lies_in_its_interval_and_says_what_was_run() -> None:
    model = images_model()
    found = gl.demand(model, 16, seconds=0.5, steps=4 * WINDOWS)
    figure = found.samples_per_s
    assert figure.low is not None and figure.high is not None and figure.provenance == "measured"
    assert figure.low <= float(found) <= figure.high
    assert found.windows == WINDOWS and found.steps == 4 * WINDOWS and found.warm_up_steps > FIRST_CALLS
    assert float(found) == pytest.approx(16 * found.steps / found.seconds)
    assert found.batch == 16 and found.made and "CPU" in found.device
    assert gl.Demand.from_dict(found.to_dict()) == found
    assert model.name in str(found)


def test_a_slower_step_has_a_lower_rate() -> None:
    import time

    import keras

    class Slow(keras.layers.Layer):  # type: ignore[misc]
        def call(self, images: Any) -> Any:
            import tensorflow as tf

            def wait(given: Any) -> Any:
                time.sleep(0.02)
                return given

            return tf.ensure_shape(tf.py_function(wait, [images], tf.float32), images.shape)

    model = keras.Sequential([keras.Input((3,)), Slow(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    found = gl.demand(model, 4, steps=10, **QUICK)
    assert 0.02 < found.step_s < 0.08 and found.steps == 10
    assert float(found) == pytest.approx(4 / found.step_s)


@pytest.mark.parametrize("fitted", [False, True])
def test_it_leaves_the_model_and_all_random_numbers_as_they_were(fitted: bool) -> None:
    import keras

    keras.utils.set_random_seed(3)
    model = images_model()
    if fitted:
        model.fit(np.ones((8, 8, 8, 3)), np.zeros(8, int), verbose=0)
    else:
        model.optimizer.build(model.trainable_variables)
    history = getattr(model, "history", None)
    before = states(model)
    gl.demand(model, 8, **QUICK)
    after = states(model)
    known = len(before[0])
    # An unfitted model gets its metrics, all of them 0.
    assert not any(array.any() for array in after[0][known:])
    assert (
        same(before, [after[0][:known], *after[1:]])
        if fitted
        else all(np.array_equal(one.numpy(), array) for one, array in zip(model.variables, before[0], strict=False))
    )
    assert int(model.optimizer.iterations) == int(fitted)
    assert getattr(model, "history", None) is history


def test_a_training_goes_on_to_the_bit_as_if_nothing_had_been_measured() -> None:
    import keras

    def trained(measured: bool) -> list[Any]:
        keras.utils.set_random_seed(5)
        model = images_model()
        if measured:
            gl.demand(model, 4, **QUICK)
        data = np.random.rand(8, 8, 8, 3)
        model.fit(data, np.arange(8) % 5, batch_size=4, epochs=2, verbose=0)
        return [variable.numpy() for variable in model.variables]

    assert all(map(np.array_equal, trained(False), trained(True)))


def test_variables_of_tensorflow_s_own_are_put_back() -> None:
    import keras
    import tensorflow as tf

    class Counting(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(1)
            self.seen = tf.Variable(0)

        def call(self, images: Any) -> Any:
            self.seen.assign_add(1)
            return self.dense(images)

    model = Counting()
    model.compile("sgd", "mse", jit_compile=False)
    data = np.ones((4, 3), np.float32)
    model(data)
    gl.demand(model, (data, data[:, :1]), **QUICK)
    assert int(model.seen.numpy()) == 1


def two_inputs_and_outputs(losses: Any, as_dict: bool = False) -> Any:
    """A functional model of an image and a word, with a class and a number."""
    import keras

    image, word = keras.Input((6, 6, 3), name="image"), keras.Input((7,), dtype="int32", name="word")
    joined = keras.layers.Concatenate()(
        [keras.layers.Flatten()(image), keras.layers.Flatten()(keras.layers.Embedding(50, 4)(word))]
    )
    kind = keras.layers.Dense(4, activation="softmax", name="kind")(joined)
    price = keras.layers.Dense(1, name="price")(joined)
    outputs: Any = {"kind": kind, "price": price} if as_dict else [kind, price]
    inputs: Any = {"image": image, "word": word} if as_dict else [image, word]
    model = keras.Model(inputs, outputs)
    model.compile("sgd", loss=losses, jit_compile=False)
    return model


@pytest.mark.parametrize(
    ("losses", "as_dict"),
    [
        (["sparse_categorical_crossentropy", "mse"], False),
        ({"kind": "categorical_crossentropy", "price": "mae"}, True),
        ({"kind": "sparse_categorical_crossentropy", "price": "mse"}, False),
    ],
)
def test_several_inputs_and_outputs(losses: Any, as_dict: bool) -> None:
    found = gl.demand(two_inputs_and_outputs(losses, as_dict), 8, **QUICK)
    assert found.batch == 8 and float(found) > 0


@pytest.mark.parametrize(
    "compiled",
    [
        {"loss": "categorical_crossentropy"},
        {"loss": lambda true, given: abs(true - given)},
        {"steps_per_execution": 4},
        {"run_eagerly": True},
        {"jit_compile": True},
    ],
    ids=["one hot", "a function", "several steps a call", "eagerly", "jit"],
)
def test_models_run_as_they_were_compiled(compiled: dict[str, Any]) -> None:
    found = gl.demand(images_model(**compiled), 8, **QUICK)
    assert found.steps % compiled.get("steps_per_execution", 1) == 0 and float(found) > 0


def test_one_s_own_training_step_without_losses() -> None:
    import keras

    class Own(keras.Model):  # type: ignore[misc]
        def train_step(self, data: Any) -> dict[str, Any]:
            (images,) = data
            return {"mean": keras.ops.mean(self(images))}

    inputs = keras.Input((3,))
    model = Own(inputs, keras.layers.Dense(2)(inputs))
    model.compile("sgd", jit_compile=False)
    assert float(gl.demand(model, 8, **QUICK)) > 0


def test_a_made_batch_is_one_of_the_model_s_kind() -> None:
    inputs, (kind, price) = made_batch(two_inputs_and_outputs(["sparse_categorical_crossentropy", "mse"]), 8)
    assert inputs[0].shape == (8, 6, 6, 3) and 0 <= inputs[0].min() < inputs[0].max() < 1
    assert inputs[1].dtype == np.int32 and not inputs[1].any()
    assert kind.shape == (8,) and kind.dtype == np.int32 and kind.max() < 4
    assert price.shape == (8, 1) and set(np.unique(price)) <= {0.0, 1.0}
    _, hot = made_batch(images_model(loss="categorical_crossentropy"), 8)
    assert hot.shape == (8, 5) and (hot.sum(axis=1) == 1).all()


def uncompiled() -> Any:
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def unbuilt() -> Any:
    import keras

    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    return model


def dynamic() -> Any:
    import keras

    model = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    )
    model.compile("sgd", "mse", jit_compile=False)
    return model


def subclassed() -> Any:
    import keras

    class Sub(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, images: Any) -> Any:
            return self.dense(images)

    model = Sub()
    model.compile("sgd", "mse", jit_compile=False)
    model(np.ones((2, 3)))
    return model


def of_32() -> Any:
    import keras

    model = keras.Sequential([keras.Input(batch_shape=(32, 3)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    return model


def fussy() -> Any:
    model = uncompiled()

    def loss(true: Any, given: Any) -> Any:
        raise KeyError("weights of classes")

    model.compile("sgd", loss, jit_compile=False)
    return model


@pytest.mark.parametrize(
    ("make", "batch", "says"),
    [
        (uncompiled, 8, r"isn't compiled: call model\.compile"),
        (unbuilt, 8, r"has no weights yet: .*keras\.Input"),
        (dynamic, 8, r"has \(None, None, None, 3\): give a batch as fit takes it, as gl\.demand\(model, \(images"),
        (subclassed, 8, r"has none: give a batch as fit takes it"),
        (of_32, 8, r"has batches of 32, but batch is 8: pass 32"),
        (fussy, 8, r"can't train on the batch made up for it \(.*\): give a batch as fit takes it"),
        (object, 8, r"demand takes a Keras model, not object"),
        (images_model, 0, r"batch"),
        (images_model, "64", r"batch is a number of samples, or \(inputs, targets\)"),
        (images_model, (np.ones((4, 8, 8, 3)), np.ones(3)), r"as many samples each, .*: make it so"),
        (images_model, (np.ones((4, 2)), np.ones(4)), r"can't train on the batch given to it"),
    ],
)
def test_what_can_t_be_measured_says_what_to_do(make: Callable[[], Any], batch: Any, says: str) -> None:
    with pytest.raises(gl.UsageError, match=says) as caught:
        gl.demand(make(), batch, **QUICK)
    assert "\n" not in str(caught.value)


def test_given_batches_do_for_models_that_nothing_can_be_made_for() -> None:
    images = np.ones((4, 5, 6, 3), np.float32)
    found = gl.demand(dynamic(), (images, np.ones((4, 2), np.float32), np.ones(4, np.float32)), **QUICK)
    assert found.batch == 4 and not found.made
    found = gl.demand(subclassed(), (np.ones((6, 3), np.float32), np.ones((6, 1), np.float32)), **QUICK)
    assert found.batch == 6


def test_a_model_that_fails_in_the_middle_is_put_back() -> None:
    import tensorflow as tf

    model = images_model(run_eagerly=True)
    train_step = model.train_step
    calls = []

    def failing(data: Any) -> Any:
        calls.append(train_step(data))
        if len(calls) == 3:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return calls[-1]

    model.train_step = failing
    before = [variable.numpy() for variable in model.variables]
    with pytest.raises(gl.UsageError, match="out of memory"):
        gl.demand(model, 8, **QUICK)
    assert len(calls) == 3
    assert all(np.array_equal(one, two.numpy()) for one, two in zip(before, model.variables, strict=True))


@pytest.mark.parametrize(("name", "value"), [("steps", 2), ("steps", 1.5), ("seconds", 0), ("seconds", "ten")])
def test_arguments_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(gl.UsageError, match=name):
        gl.demand(images_model(), 8, **{name: value})


class _Model:
    stop_training = False


@pytest.mark.parametrize(("step_s", "seconds", "windows"), [(0.01, 10.0, 10), (1.0, 10.0, 10), (4.0, 10.0, 3)])
def test_tracing_and_warm_up_are_left_out_and_slow_steps_have_fewer_windows(
    step_s: float, seconds: float, windows: int
) -> None:
    now, model = [0.0], _Model()
    clock = _Clock(model, seconds, None, 1, lambda: now[0])
    for call in range(100_000):
        now[0] += 7.0 if call < FIRST_CALLS else step_s
        clock.after_call(call)
        if model.stop_training:
            break
    assert clock.done and len(clock.windows_s) == windows
    assert rate(clock.windows_s, clock.steps_a_window * 8).value == pytest.approx(8 / step_s)
    assert sum(clock.windows_s) == pytest.approx(max(seconds, windows * step_s), rel=0.05)


def test_an_interval_covers_one_further_mean_of_windows() -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        figure = rate((0.5 + generator.normal(0, 0.01, WINDOWS)).tolist(), 100)
        assert figure.low is not None and figure.high is not None
        inside += figure.low <= 200 <= figure.high
    assert 0.93 <= inside / 1000 <= 0.97
