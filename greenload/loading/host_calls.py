"""Calls from TensorFlow's graph into Python: batches that other backends work on.

DALI on the CPU is called so too, although NVIDIA's plugin has a node for it (``dali_node``). Fed from TensorFlow's
graph alone, that node takes 2 to 3 % less CPU time, and goes through tf.data service. But it keeps less of what is
promised: inside a graph no error names a record that DALI refuses, DALI's own text goes to standard output, batches
before a bad record are lost, and the process is aborted where a pipeline can't be built. Files with EXIF data are
rewritten for DALI, which TensorFlow's operations don't do. Fed by a call into Python, the node takes 2 % more CPU time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from greenload.backends.base import Records, echoes_of
from greenload.backends.tf.backend import State
from greenload.errors import RecordError
from greenload.loading.bad_records import REFUSED
from greenload.sources import Source
from greenload.system import shutdown
from greenload.system.frameworks import tf

Owner = TypeVar("Owner")


class SegmentCall:
    """A call from tf.data into other backends. A ``ValueError`` reaches users as ``InvalidArgumentError`` with its
    text.

    Args:
        run: takes a batch.
        source: whose records they are.
        recall: gives the images of records, by their indices, in place of those that come with a batch.
        once: whether neighbouring elements of one sample are its echoes, which share an image.
    """

    def __init__(
        self,
        run: Callable[[Records], Any],
        source: Source,
        recall: Callable[[Source, Sequence[int]], Sequence[Any]] | None = None,
        once: bool = False,
    ) -> None:
        self.run = run
        self.source = source
        self.recall = recall
        self.once = once

    def run_batch(self, images: Any, sides: Any, numbers: Any, index: Any) -> Any:
        """A batch as TensorFlow gives it, through the segments; its images."""
        names = [self.source.name(int(i)) for i in index]
        own, image_of = echoes_of(index) if self.once else (index, None)
        try:
            if self.recall is not None:
                separate = list(self.recall(self.source, own.tolist()))
            else:
                separate = split_images(images, sides) if len(sides) else list(images)
                if image_of is not None:
                    separate = [separate[row] for row in image_of.searchsorted(range(len(own))).tolist()]
            return self.run(Records(separate, numbers, names, image_of))
        except RecordError as error:
            raise bad_record_error(error, names, index) from None


def host_call(owner: Owner, method: Callable[[Owner, Any, Any, Any, Any], Any], dtype: Any) -> Callable[[State], Any]:
    """A function of a batch's state that calls a Python method with images, sides, numbers and index.

    The owner is kept by the dataset, through the result.

    Args:
        owner: whose method it is.
        method: of the owner's class.
        dtype: TensorFlow's, of what the method gives.
    """
    call = shutdown.weak_call(owner, method)

    def on_host(state: State) -> Any:
        _ = owner
        numbers = state.get("numbers", tf.zeros([tf.size(state["index"]), 0], tf.float64))
        image = state["image"]
        sides = state.get("sides", tf.zeros([0, 3], tf.int32))
        values = image.flat_values if isinstance(image, tf.RaggedTensor) else image
        return tf.numpy_function(call, [values, sides, numbers, state["index"]], dtype, stateful=True)

    return on_host


def bad_record_error(error: RecordError, names: Sequence[str], index: Any) -> ValueError:
    """What a call from tf.data raises for a bad record of a batch; ``record_errors`` finds the record by its
    text."""
    text = f"{REFUSED} [{index[names.index(error.path)]}] {error}"
    return ValueError(text.encode(errors="backslashreplace").decode())


def split_images(values: Any, sides: Any) -> list[Any]:
    """Images of different sizes that lie one after another in one array, as views.

    Args:
        values: all their values, ``[sum of sizes]``.
        sides: height, width and channels of each, ``[n, 3]``.
    """
    import numpy as np

    ends = np.cumsum(np.prod(sides, axis=1))
    return [part.reshape(shape) for part, shape in zip(np.split(values, ends[:-1]), sides, strict=True)]
