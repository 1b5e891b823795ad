"""What ``backend="auto"`` chooses, against each backend alone, on three pipelines; and against tf.data's own resize."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import greenload as gl
from bench import by_hand
from bench.by_hand import SIDE, Workload
from bench.contest import MakeBatches, Row, Spread, Window, cpu_s_per_image, ratios
from greenload.backends import registry
from greenload.plans.plan import Plan

AUTO = "auto"
PHOTOS, EVALUATION, CIFAR = "photos", "evaluation", "cifar"
"""Streaming photographs, antialiased evaluation, and CIFAR-sized arrays with colour jitter."""
BY_HAND = "tf.data's antialiased resize, by hand"
SINGLE = ("tf", "dali-cpu", "pillow")
ARRAYS = 4096
"""Images of the CIFAR-sized set."""
BY_HAND_REACH, BEST_REACH, TF_REACH = 0.62, 1.05, 1.0
SAME = 1.03
"""What two builds of one plan may differ by: the reach where the choice is the plan that it is held against."""


@dataclass(frozen=True)
class Choice:
    """What ``"auto"`` chose for a group, and what ran beside it."""

    group: str
    plan: Plan
    same: tuple[str, ...]
    """The single backends whose plan it is."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {"plan": self.plan.to_dict(), "described": self.plan.describe().splitlines(), "same": list(self.same)}


def pipeline(work: Workload, group: str) -> gl.Pipeline:
    """The pipeline of a group."""
    if group == CIFAR:
        return gl.Pipeline(
            small_images(work.paths),
            gl.Shuffle(),
            gl.RandomCrop(32, padding=4),
            gl.RandomHorizontalFlip(),
            gl.ColorJitter(0.2, 0.2, 0.2, 0.05),
            gl.Batch(128),
            seed=1,
        )
    resize = (
        (gl.RandomResizedCrop(SIDE), gl.RandomHorizontalFlip())
        if group == PHOTOS
        else (gl.Resize(256), gl.CenterCrop(SIDE))
    )
    order = (gl.Shuffle(),) if group == PHOTOS else ()
    files = gl.Files(work.paths, labels=work.labels)
    return gl.Pipeline(files, *order, gl.Decode(), *resize, gl.Batch(work.batch), seed=1)


def small_images(paths: Sequence[str]) -> gl.Arrays:
    """32×32 pieces of photographs, uint8 ``[n, 32, 32, 3]``."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    photos = [tf.io.decode_jpeg(tf.io.read_file(path), channels=3).numpy() for path in paths[:32]]
    images = np.empty((ARRAYS, 32, 32, 3), np.uint8)
    for i in range(ARRAYS):
        photo = photos[i % len(photos)]
        top, left = (int(random.integers(0, side - 31)) for side in photo.shape[:2])
        images[i] = photo[top : top + 32, left : left + 32]
    return gl.Arrays(images, labels=np.arange(ARRAYS) % 10)


def groups(work: Workload, wanted: Sequence[str]) -> tuple[dict[str, Mapping[str, MakeBatches]], list[Choice]]:
    """The contestants of each wanted group, by name, and what was chosen.

    Args:
        work: the photographs, and with what means they are loaded.
        wanted: some of ``PHOTOS``, ``EVALUATION`` and ``CIFAR``.
    """
    found: dict[str, Mapping[str, MakeBatches]] = {}
    choices = []
    usable = [name for name in SINGLE if registry.get(name).availability().usable]
    for group in (one for one in (PHOTOS, EVALUATION, CIFAR) if one in wanted):
        pipe = pipeline(work, group)
        plans = {
            name: gl.make_plan(pipe, name, threads=work.threads, prefetch=work.prefetch) for name in (AUTO, *usable)
        }
        contestants: dict[str, MakeBatches] = {name: functools.partial(_batches, plan) for name, plan in plans.items()}
        if group == PHOTOS:
            contestants[BY_HAND] = lambda: (images for images, _ in by_hand.tuned(work, dct_method="INTEGER_ACCURATE"))
        found[group] = contestants
        same = tuple(name for name in usable if plans[name].steps == plans[AUTO].steps)
        choices.append(Choice(group, plans[AUTO], same))
    return found, choices


def _batches(plan: Plan) -> Iterator[Any]:
    return (images for images, _ in gl.load(plan, epochs=1_000_000))


def rows(windows: Sequence[Window], choices: Sequence[Choice]) -> list[Row]:
    """The choice against the best single backend, against tf, and against tf.data by hand; then what each costs."""
    found = []
    for choice in choices:
        group = choice.group
        names = list(dict.fromkeys(w.contestant for w in windows if w.group == group))
        costs = {name: cpu_s_per_image(windows, group, name) for name in names}
        single = [name for name in names if name in SINGLE]
        best = min(single, key=lambda name: costs[name].median)
        for name, what, reach in (
            (BY_HAND, BY_HAND, BY_HAND_REACH),
            (best, f"the best single backend ({best})", BEST_REACH),
            ("tf", "tf", TF_REACH),
        ):
            if name not in names:
                continue
            same = name in choice.same
            text = f"{group}: CPU, auto over {what}" + (", the same plan" if same else "")
            spread = Spread.of(ratios(windows, group, AUTO, name))
            found.append(Row(text, "×", spread, max(reach, SAME) if same else reach))
        placed = " + ".join(choice.plan.backends)
        for name, cost in costs.items():
            shown = f"{name} ({placed})" if name == AUTO else name
            spread = Spread(cost.median * 1e3, cost.low * 1e3, cost.high * 1e3)
            found.append(Row(f"{group}: {shown}", "ms/image", spread))
    return found
