"""Layers on the device that trains, as something that can be run for a while: the other side of a split pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf


class LayerRun:
    """Batches that pass through a layer, one call a batch, as a training step makes them.

    Args:
        batches: endless; images first where they are tuples.
        layer: a ``keras.layers.Layer``; ``None`` for none: the batches are only fetched.
    """

    def __init__(self, batches: Iterable[Any], layer: Callable[[Any], Any] | None) -> None:
        import tensorflow as tf

        self._batches: Iterator[Any] | None = iter(batches)
        self._call = tf.function(layer, autograph=False, reduce_retracing=True) if layer else None

    def run(self, samples: int) -> int:
        """Pass at least ``samples`` samples; returns how many."""
        assert self._batches is not None  # not closed
        done, out = 0, None
        while done < samples:
            batch = next(self._batches)
            images = batch[0] if isinstance(batch, tuple) else batch
            done += int(images.shape[0])
            if self._call:
                out = self._call(images)
        if out is not None:
            # A GPU works on its own time: one number back means that all before it is done.
            out[(0,) * len(out.shape)].numpy()
        return done

    def close(self) -> None:
        """Let go of the batches."""
        self._batches = None


def held(dataset: tf.data.Dataset, samples: int) -> Callable[[], Iterator[Any]]:
    """The first batches of ``(images, labels)``, kept in the host's memory, to be handed out over and over.

    Args:
        dataset: batches, endless or longer than ``samples``.
        samples: how many images to keep, at least.
    """
    kept: list[Any] = []
    count = 0
    for images, _ in dataset:
        kept.append(images)
        count += int(images.shape[0])
        if count >= samples:
            break

    def over_and_over() -> Iterator[Any]:
        while True:
            yield from kept

    return over_and_over
