"""A comparison of strategies whose figures are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from greenload.energy.figures import Figure, scale
from greenload.machine import Machine
from greenload.report.checks import Check
from greenload.strategies.augmented import data_uri
from greenload.strategies.data import Comparison
from greenload.strategies.records import KEPT, Card, LimitCheck, Run, StepCard, StepUp, Tie

MEASURED = "measured"
SCORES = {"plain": 0.90, "trivial": 0.93, "randaugment": 0.932, "mixup": 0.91}
COSTS = {"plain": 1000.0, "trivial": 1100.0, "randaugment": 1500.0, "mixup": 1300.0}
STAGES: Mapping[str, list[dict[str, Any]]] = {
    "plain": [],
    "trivial": [{"stage": "RandomSolarize", "threshold": 128, "p": 0.5}],
    "randaugment": [
        {"stage": "RandomPosterize", "bits": 4, "p": 0.5},
        {"stage": "GaussianBlur", "kernel_size": [3, 3]},
    ],
    "mixup": [{"stage": "MixUp", "alpha": 0.2, "num_classes": 10}],
}


def figure(value: float, half: float, provenance: str = MEASURED) -> Figure:
    return Figure(value, value - half, value + half, provenance, 0.4 if provenance == "modelled" else 0.0)


def card(name: str, **changed: Any) -> Card:
    decode = figure(0.8e-3, 0.01e-3)
    own = figure(0.05e-3 + 1e-7 * COSTS[name], 0.02e-3)
    joules = figure(0.012, 0.001, "modelled")
    made = Card(
        strategy=name,
        pipeline={"stages": [{"stage": "Decode"}, *STAGES[name], {"stage": "Batch", "size": 64}]},
        images_per_s=figure(2400 - COSTS[name] / 2, 30),
        cpu_s_per_sample=figure(0.85e-3 + 1e-7 * COSTS[name], 0.02e-3),
        energy_j_per_sample={"cpu": joules},
        steps=(
            StepCard(name="Decode", backend="native", cpu_s_per_sample=decode, energy_j_per_sample={"cpu": joules}),
            StepCard(name="augment", backend="native", cpu_s_per_sample=own, energy_j_per_sample={"cpu": joules}),
        ),
        starves=name == "randaugment",
        runs=4,
        failed=1 if name == "mixup" else 0,
        score=figure(SCORES[name], 0.004),
        training_cpu_s=figure(COSTS[name] / 10, 2.0),
        training_seconds=figure(COSTS[name] / 20, 1.0),
        training_energy_j={"cpu:package-0": figure(COSTS[name], 20.0)},
        cost=figure(COSTS[name], 20.0),
        seconds=8.0,
    )
    return replace(made, **changed)


def run(name: str, seed: int, **changed: Any) -> Run:
    joules = {"cpu:package-0": COSTS[name] + seed}
    score = SCORES[name] + 0.001 * seed
    cpu_s = COSTS[name] / 10
    made = Run(
        strategy=name, seed=seed, score=score, seconds=50.0, cpu_s=cpu_s, loader_cpu_s=cpu_s / 4, energy_j=joules
    )
    return replace(made, **changed)


def comparison(**changed: Any) -> Comparison:
    """Four strategies: mixup is dominated, trivial and randaugment are tied, and trivial is recommended."""
    kept = Check("energy<=1.2*plain", "met", 1100.0, 1090.0, 1110.0, 1200.0, "")
    held = Check("energy<=1.2*plain", "undecided", 1195.0, 1150.0, 1240.0, 1200.0, KEPT)
    broken = Check("energy<=1.2*plain", "exceeded", 1500.0, 1490.0, 1510.0, 1200.0, "")
    ramp = np.arange(32 * 32 * 3, dtype=np.uint32).reshape(32, 32, 3)
    made = Comparison(
        created="2026-11-30T23:00:00+00:00",
        greenload="0.1.0",
        machine=Machine("Known CPU", 2, 8_000_000_000, "Linux 6.1", "3.11.9", {"numpy": "2.0.0"}),
        meters=(),
        key="0123abcd",
        settings={
            "seeds": 3,
            "budget_s": 900.0,
            "limits": ["energy<=1.2*plain"],
            "confidence": 0.95,
            "demand": None,
            "same": {
                "strategies": {"plain": "aa", "mixup": "bb"},
                "evaluate": "train.accuracy 12ab",
                "backend": "auto",
            },
        },
        unit="J",
        cards=tuple(map(card, SCORES)),
        runs=(
            *(run(name, seed) for seed in range(4) for name in SCORES),
            run("mixup", 4, score=None, failed="ValueError: the loss is nan"),
        ),
        pareto=("plain", "trivial"),
        steps_up=(
            StepUp(
                lower="plain",
                upper="trivial",
                points=figure(3.0, 0.5),
                cost=figure(100.0, 15.0),
                cost_per_point=figure(33.3, 8.0),
            ),
        ),
        ties=(Tie(a="trivial", b="randaugment", difference=figure(-0.002, 0.006), more_seeds=27),),
        recommended="trivial",
        reason="trivial is tied with the best score and costs least of those",
        limits=(
            LimitCheck(strategy="trivial", check=kept),
            LimitCheck(strategy="mixup", check=held),
            LimitCheck(strategy="randaugment", check=broken),
        ),
        notes=("joules are those of the whole package.",),
        finished=True,
        pictures={name: tuple(data_uri((ramp * (k + 1) % 256).astype(np.uint8)) for k in range(6)) for name in SCORES},
    )
    return replace(made, **changed)


def unscored() -> Comparison:
    """Costs alone: nothing was trained."""
    missing = Figure.missing()
    cards = tuple(
        card(name, runs=0, failed=0, score=missing, cost=missing, training_cpu_s=missing, training_seconds=missing,
             training_energy_j={})
        for name in SCORES
    )  # fmt: skip
    return comparison(
        cards=cards, runs=(), pareto=(), steps_up=(), ties=(), recommended=None, reason="", limits=(), unit="CPU s",
        pictures={},
    )  # fmt: skip


def dearer(made: Comparison, factor: float, *names: str) -> Comparison:
    """The comparison with training's and loader's costs of some strategies so many times as high."""
    cards = [
        replace(each, cost=scale(each.cost, factor), cpu_s_per_sample=scale(each.cpu_s_per_sample, factor))
        if each.strategy in names
        else each
        for each in made.cards
    ]
    return replace(made, cards=tuple(cards))
