"""Compares the elements of two trees bit for bit: the same seeds, the same order, epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from greenload.optimization.dataset_nodes import TreeBuilder
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.states import states_kept
from greenload.profiling.tfdata.units import row_count
from greenload.report.record import Record
from greenload.system.frameworks import tf
from greenload.system.random_states import random_states_kept

EPOCHS = 2
_PATIENCE = 10  # times the seconds of a comparison, that one without regard to order may take: it needs whole epochs


@dataclass(frozen=True, kw_only=True)
class Comparison(Record):
    """What was compared, and what came of it."""

    elements: int
    """Elements of each that were compared."""
    epochs: int
    """Epochs that they are of."""
    order: str
    """``"same"``; ``"any"`` where the dataset promises none, and samples were compared without regard to it."""
    differs: str = ""
    """How they differ; empty where all are equal."""

    @property
    def equal(self) -> bool:
        """Whether all elements are equal."""
        return not self.differs and self.elements > 0


@dataclass(frozen=True)
class Comparer:
    """Compares changed trees with a dataset's own.

    Args:
        root: the dataset's own.
        cut: as of `TreeBuilder`.
        seconds: that a comparison may take, roughly.
        free_order: whether the dataset promises no order.
        told: called whenever an element came.
        scratch: makes an empty folder for what caches write.
        most: elements of each iterator, at most: for datasets without an end; None for all.
    """

    root: Node
    cut: Mapping[str, int]
    seconds: float
    free_order: bool
    told: Callable[[], None]
    scratch: Callable[[], str]
    most: int | None = None

    def compare(self, changed: Node, most: int | None = None) -> Comparison:
        """The elements of a changed tree beside the dataset's own, in two epochs.

        Args:
            changed: the tree.
            most: elements of each epoch, at most; None for all, as far as time allows.
        """
        if self.most is not None:
            most = self.most if most is None else min(most, self.most)
        builders = [TreeBuilder(self.scratch(), serial=True, cut=self.cut) for _ in range(2)]
        datasets = [_steady(builder.build(root)) for builder, root in zip(builders, (self.root, changed), strict=True)]
        differs = spec_difference(self.root.element_spec, datasets[1].element_spec)
        if differs:
            return Comparison(elements=0, epochs=0, order="same", differs=differs)
        return self._by_samples(datasets, self.most) if self.free_order else self._in_order(datasets, most)

    def _passes(self, dataset: Any, most: int | None) -> Iterator[tuple[int, list[Any]]]:
        """Epoch and flat tensors of each element; Python's, NumPy's and the functions' own states are put back."""
        with random_states_kept(), states_kept(self.root):
            for epoch in range(EPOCHS):
                for count, element in enumerate(dataset):
                    self.told()
                    if most is not None and count >= most:
                        break
                    yield epoch, tf.nest.flatten(element, expand_composites=True)

    def _in_order(self, datasets: list[Any], most: int | None) -> Comparison:
        first: list[tuple[int, list[int]]] = []
        until = time.monotonic() + self.seconds / 2
        epochs, whole = 0, True
        for epoch, parts in self._passes(datasets[0], most):
            epochs = epoch
            first.append((epoch, [_print(part) for part in parts]))
            if time.monotonic() > until and len(first) >= 2:
                whole = False
                break
        count = 0
        for count, (epoch, parts) in enumerate(self._passes(datasets[1], most), 1):
            if count > len(first):
                if whole:
                    return _differing(count, epochs, f"it gives more than {len(first)} elements")
                count -= 1
                break
            if (epoch, [_print(part) for part in parts]) != first[count - 1]:
                return _differing(count, epoch + 1, f"element {count} is another one")
        if count < len(first):
            return _differing(count, epochs + 1, f"it gives {count} elements, not {len(first)}")
        return Comparison(elements=count, epochs=epochs + 1, order="same")

    def _by_samples(self, datasets: list[Any], most: int | None) -> Comparison:
        """Of datasets that promise no order: which samples each epoch has."""
        counts: list[dict[tuple[int, tuple[int, ...]], int]] = [{}, {}]
        elements, until = 0, time.monotonic() + _PATIENCE * self.seconds
        for seen, dataset in zip(counts, datasets, strict=True):
            for epoch, parts in self._passes(dataset, most):
                if time.monotonic() > until:
                    differs = "two whole epochs take too long to be compared without regard to order"
                    return Comparison(elements=elements, epochs=0, order="any", differs=differs)
                elements += seen is counts[0]
                for row in _rows(parts):
                    seen[epoch, row] = seen.get((epoch, row), 0) + 1
        differs = "" if counts[0] == counts[1] else "an epoch has other samples"
        return Comparison(elements=elements, epochs=EPOCHS, order="any", differs=differs)


def _differing(elements: int, epochs: int, how: str) -> Comparison:
    return Comparison(elements=elements, epochs=epochs, order="same", differs=how)


def _steady(dataset: Any) -> Any:
    """A dataset that gives its elements in the same order each time that it is built."""
    steady = tf.data.Options()
    steady.deterministic = True
    steady.autotune.enabled = False
    return dataset.with_options(steady)


def spec_difference(before: Any, after: Any) -> str:
    """How two structures of elements differ; shapes may be known less well."""
    try:
        tf.nest.assert_same_structure(before, after, expand_composites=True)
    except (ValueError, TypeError):
        return "its elements have another structure"
    pairs = zip(*(tf.nest.flatten(spec, expand_composites=True) for spec in (before, after)), strict=True)
    for one, other in pairs:
        if getattr(one, "dtype", None) != getattr(other, "dtype", None):
            return f"it gives {other.dtype.name}, not {one.dtype.name}"
        if not one.shape.is_compatible_with(other.shape):
            return f"it gives shape {other.shape}, not {one.shape}"
    return ""


def _print(part: Any) -> int:
    """A number that tells a tensor from others: of its dtype, its shape and all its bits."""
    if part.dtype == tf.variant:
        raise ValueError("elements that hold a variant can't be compared")
    array = part.numpy()
    if part.dtype == tf.string:
        flat = array.ravel().tolist() if hasattr(array, "ravel") else [array]
        return hash((part.dtype.name, tuple(part.shape), tuple(flat)))
    return hash((part.dtype.name, tuple(part.shape), array.tobytes()))


def _rows(parts: list[Any]) -> Iterator[tuple[int, ...]]:
    """The rows of a batch; the whole element where it has none."""
    count = int(row_count(parts[0]))
    if any(part.shape.rank == 0 or part.shape[0] != count for part in parts):
        yield tuple(_print(part) for part in parts)
        return
    for row in range(count):
        yield tuple(_print(part[row]) for part in parts)
