"""Functions of a sample's or a batch's state, and what makes one of several."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from greenload.backends.tf.backend import Element, State
from greenload.plans.steps import Step
from greenload.specs import ImageSpec
from greenload.system.frameworks import tf

Function = TypeVar("Function", bound=Callable[..., Any])


def compose(elements: Sequence[Element]) -> Element:
    """One function that applies several in order."""

    def chained(state: State) -> State:
        return functools.reduce(lambda so_far, element: element(so_far), elements, state)

    return plain(chained)


def traced_once(function: Function) -> Function:
    """A function that is traced at its first call: at later ones in other graphs it is one operation of theirs."""
    traced: Function = tf.function(function, autograph=False)
    return traced


def plain(function: Function) -> Function:
    """A function for tf.data to trace without AutoGraph: it has no control flow to convert, and converting takes time
    and leaves a file for each function that it calls until the process ends."""
    traced: Function = tf.autograph.experimental.do_not_convert(function)
    return traced


def looked_up(table: Any) -> Element:
    """Puts what a cache's table keeps of a sample into its state, as ``"kept"``."""

    def element(state: State) -> State:
        return state | {"kept": table.lookup(state["index"])}

    return element


def cached(upstream: Element, step: Step, table: Any, look_up: Element) -> Element:
    """``upstream`` with a cache: its results by index, in a table in memory that all iterators of a dataset share.

    tf.data's own ``cache`` also stores the order of the first epoch, and would repeat it.

    Args:
        upstream: what is kept.
        step: the cache's.
        table: of strings.
        look_up: ``looked_up`` of the same table.
    """
    dtype = tf.string if step.spec_out.encoded else tf.as_dtype(step.spec_out.dtype)

    def element(state: State) -> State:
        state = look_up(state)
        kept = state.pop("kept")

        def fill() -> Any:
            image = upstream(state)["image"]
            stored = image if dtype == tf.string else tf.io.serialize_tensor(image)
            with tf.control_dependencies([table.insert(state["index"], stored)]):
                return tf.identity(image)

        def recall() -> Any:
            return kept if dtype == tf.string else tf.io.parse_tensor(kept, dtype)

        image = tf.cond(tf.strings.length(kept) > 0, recall, fill)
        image.set_shape(step.spec_out.shape)
        return state | {"image": image}

    return element


def unread(state: State) -> State:
    """A sample whose file is read where its batch is worked on, if at all."""
    return {key: value for key, value in state.items() if key != "path"} | {"image": tf.constant("")}


ECHOES = "echoes"
"""In the state of a sample before ``Echo``: the prepared random values of its echoes, float64 ``[times, count]``."""


def echoes(samples: tf.data.Dataset, times: int) -> tf.data.Dataset:
    """The echoes of samples, those of one behind each other: each with its position and its prepared random values, and
    all else, as the image, shared.

    Args:
        samples: states, with ``ECHOES`` where stages draw; their position is that of the first echo.
        times: how many echoes each has.
    """

    def each(state: State) -> tf.data.Dataset:
        own = {"number": tf.range(times, dtype=tf.int64)}
        own |= {"numbers": state[ECHOES]} if ECHOES in state else {}
        shared = tf.data.Dataset.from_tensors({key: value for key, value in state.items() if key != ECHOES})
        return tf.data.Dataset.zip((shared.repeat(times), tf.data.Dataset.from_tensor_slices(own)))

    def one(shared: State, own: State) -> State:
        position = shared["position"] + own["number"]
        return shared | {key: value for key, value in own.items() if key != "number"} | {"position": position}

    return samples.flat_map(plain(each)).map(plain(one))


def kept(names: Sequence[str], ragged: bool) -> Element:
    """A function that keeps the part of a sample's state that goes into a batch.

    Args:
        names: of that part.
        ragged: whether images of different sizes go into one batch.
    """

    def element(state: State) -> State:
        done = {key: state[key] for key in names if key in state}
        if ragged:
            done["sides"] = tf.shape(done["image"])
            done["image"] = tf.RaggedTensor.from_tensor(tf.reshape(done["image"], [1, -1]))
        return done

    return element


def sample_by_sample(element: Element, spec: ImageSpec) -> Element:
    """A function of one sample as a function of a batch.

    Args:
        element: the function.
        spec: of the images that it gives.
    """
    out = tf.TensorSpec(spec.shape, spec.dtype)

    def on_batch(state: State) -> State:
        each = {key: state[key] for key in ("image", "numbers") if key in state}
        image = tf.map_fn(lambda sample: element(sample)["image"], each, fn_output_signature=out)
        return state | {"image": image}

    return on_batch
