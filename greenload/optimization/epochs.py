"""What a window of a plan runs: building its dataset, whole epochs by iterators of their own, or many by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from greenload.system.frameworks import tf


class Epochs:
    """Whole epochs of a dataset that ``load`` returns, each by an iterator of its own, as ``model.fit`` runs them.

    Args:
        dataset: in the auto-advancing form.
        samples: of an epoch.
        told: called with each batch.
    """

    def __init__(self, dataset: tf.data.Dataset, samples: int, told: Callable[[], None]) -> None:
        self._dataset: tf.data.Dataset | None = dataset
        self._samples = samples
        self._told = told
        self.first_s = 0.0
        """When the first batch came, on the clock of this process's CPU seconds."""

    def run(self, samples: int) -> int:
        """Run at least one epoch, and as many as give so many samples; returns how many passed."""
        epochs = max(1, round(samples / self._samples))
        for _ in range(epochs):
            assert self._dataset is not None  # not closed
            for _ in self._dataset:
                self.first_s = self.first_s or time.process_time()
                self._told()
        return epochs * self._samples

    def close(self) -> None:
        """Let go of the dataset, and of what it holds."""
        self._dataset = None


class Stream:
    """Epoch after epoch of a dataset that ``load`` returns, by one iterator. What beginning an epoch takes isn't in
    it, beside which what few samples take would drown.

    Args:
        dataset: in the auto-advancing form.
        samples: of an epoch.
        batches: of an epoch.
        told: called with each batch.
    """

    def __init__(self, dataset: tf.data.Dataset, samples: int, batches: int, told: Callable[[], None]) -> None:
        self._iterator: Any = iter(dataset.repeat())
        self._samples, self._batches = samples, batches
        self._told = told

    def run(self, samples: int) -> int:
        """Run at least one epoch, and as many as give so many samples; returns how many passed."""
        epochs = max(1, round(samples / self._samples))
        for _ in range(epochs * self._batches):
            next(self._iterator)
            self._told()
        return epochs * self._samples

    def close(self) -> None:
        """Let go of the iterator, its threads and buffers."""
        self._iterator = None


class Starting:
    """Builds a plan's dataset, and runs its first epoch.

    Args:
        make: builds it.
    """

    def __init__(self, make: Callable[[], Epochs]) -> None:
        self._make = make
        self.epochs: Epochs | None = None
        self.first_batch_cpu_s = 0.0
        """CPU seconds of this process until the first batch."""

    def run(self, samples: int) -> int:
        """Build and run an epoch; returns the samples that passed."""
        began_s = time.process_time()
        self.epochs = self._make()
        passed = self.epochs.run(samples)
        self.first_batch_cpu_s = self.epochs.first_s - began_s
        return passed

    def close(self) -> None:
        """Let go of the dataset."""
        if self.epochs is not None:
            self.epochs.close()
