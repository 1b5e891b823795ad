"""What `bench.optimize` searches plans for: four pipelines, the trainings that they feed, and budgets of memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import greenload as gl
from bench import choice
from bench.by_hand import SIDE, Workload
from bench.choice import CIFAR, EVALUATION, PHOTOS

RANDAUGMENT = "randaugment"
SUBJECTS = (PHOTOS, EVALUATION, CIFAR, RANDAUGMENT)
EPOCHS = {CIFAR: 20}
"""Of the training, where an epoch takes little; else `FEW`."""
FEW = 5
MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """A pipeline, the training that it feeds, and the memory that a plan may hold."""

    subject: str
    epochs: int
    ram: int
    """Bytes."""

    @property
    def name(self) -> str:
        """As a row shows it."""
        return f"{self.subject}, {self.ram / MIB:.0f} MiB"


def pipeline(work: Workload, subject: str) -> gl.Pipeline:
    """The pipeline of a subject: the same in each process."""
    if subject != RANDAUGMENT:
        return choice.pipeline(work, subject)
    return gl.Pipeline(
        gl.Files(work.paths, labels=work.labels),
        gl.Shuffle(),
        gl.Decode(),
        gl.RandomResizedCrop(SIDE),
        gl.RandomHorizontalFlip(),
        gl.RandAugment(2, 9),
        gl.Batch(work.batch),
        seed=1,
    )


def cases(work: Workload, subjects: Sequence[str], epochs: int | None = None) -> list[Case]:
    """Each subject with two budgets: memory for a part of the decoded images, and for more than all of them.

    Args:
        work: the photographs.
        subjects: some of `SUBJECTS`.
        epochs: of all trainings; each subject's own if not given.
    """
    part, all_ = budgets(work)[1], budgets(work)[-1]
    return [Case(subject, epochs or EPOCHS.get(subject, FEW), ram) for subject in subjects for ram in (part, all_)]


def budgets(work: Workload) -> tuple[int, ...]:
    """Five budgets of memory, from nothing to more than enough: 0, a tenth of a mebibyte an image, and more."""
    images = len(work.paths)
    return tuple(int(share * images * MIB) for share in (0.0, 0.1, 0.25, 0.5, 2.0))


def rising(work: Workload, subject: str, epochs: int | None = None) -> list[Case]:
    """A subject with each of `budgets`."""
    first = cases(work, [subject], epochs)[0]
    return [replace(first, ram=ram) for ram in budgets(work)]
