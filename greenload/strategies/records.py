"""What a comparison of strategies holds, as frozen records with the JSON's own shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from greenload.energy.domains import Domain
from greenload.energy.figures import Figure
from greenload.energy.meters.base import MeterStatus
from greenload.errors import UsageError
from greenload.machine import Machine
from greenload.plans.pipeline import Pipeline
from greenload.report.checks import Check
from greenload.report.record import Record

JOULES = "J"
CPU_SECONDS = "CPU s"
UNITS = (JOULES, CPU_SECONDS)
"""What a training costs is told in: joules where a counter reads, else CPU seconds."""
ENOUGH_RUNS = 3
"""Runs of a strategy that is recommended, at least, and the fewest seeds that may be asked for: fewer tell nothing
apart."""
POINT = 0.01
"""Of a score: a percentage point where it is an accuracy from 0 to 1."""
DECIDING_KINDS = ("cpu", "dram", "gpu")
"""Kinds of domain whose joules a training's cost is the sum of."""


class Evaluated(Protocol):
    """What a run of an evaluation that measures itself gives."""

    @property
    def score(self) -> float:
        """Higher is better."""

    @property
    def cpu_s(self) -> float:
        """CPU seconds of the whole run: loader and model."""

    @property
    def loader_cpu_s(self) -> float | None:
        """CPU seconds of the loader, out of ``cpu_s``; None where they couldn't be told apart."""

    @property
    def energy_j(self) -> Mapping[str, Any]:
        """Joules of the whole run by domain, as numbers or as figures; empty where no counter reads."""


@runtime_checkable
class Evaluates(Protocol):
    """An evaluation that builds its dataset and measures its run itself, as the built-in proxy does."""

    def run(self, pipeline: Pipeline, seed: int, backend: Any) -> Evaluated:
        """Train and score once.

        Args:
            pipeline: the strategy, already with the run's seed.
            seed: of everything random in the model.
            backend: as ``gl.load`` takes it.
        """


@dataclass(frozen=True, kw_only=True)
class Run(Record):
    """One strategy trained and scored with one seed."""

    strategy: str
    seed: int
    """Of the pipeline, and of the model as far as ``evaluate`` uses it."""
    score: float | None
    """Higher is better; None where the run failed."""
    failed: str = ""
    """Why it gave no score, in one line; empty where it gave one."""
    seconds: float
    """Wall seconds."""
    cpu_s: float
    """CPU seconds of the process and its children: loader and model."""
    loader_cpu_s: float | None = None
    """The loader's part of them; None where nothing told the two apart."""
    energy_j: Mapping[str, float] = field(default_factory=dict)
    """Joules by domain: of the whole package, memory or GPU where measured. Empty where no counter reads."""
    modelled: tuple[str, ...] = ()
    """Domains in ``energy_j`` that no counter reads: modelled, of this process, beside others that are measured."""
    warm_up_s: float = 0.0
    """Wall seconds of the same run before this one, which doesn't count: the first of its session."""

    @property
    def wall_s(self) -> float:
        """Wall seconds of a budget that it took."""
        return self.seconds + self.warm_up_s

    @property
    def total_j(self) -> float | None:
        """Joules of processors, memory and GPUs together; None where no counter reads."""
        parts = [joules for domain, joules in self.energy_j.items() if Domain.parse(domain).kind in DECIDING_KINDS]
        return math.fsum(parts) if parts else None


@dataclass(frozen=True, kw_only=True)
class StepCard(Record):
    """What one step of a strategy's pipeline costs, as profiled."""

    name: str
    backend: str
    cpu_s_per_sample: Figure
    energy_j_per_sample: Mapping[str, Figure] = field(default_factory=dict)
    """Joules by domain, without idle power."""


@dataclass(frozen=True, kw_only=True)
class Card(Record):
    """One strategy: what its pipeline costs, and what training with it gave. Figures that nobody measured are missing.

    The first figures are of the loader alone, as ``gl.profile`` gives them. ``score`` and what begins with
    ``training`` are means of whole runs, with intervals over seeds.
    """

    strategy: str
    pipeline: Mapping[str, Any]
    """The pipeline's ``to_dict()``."""
    images_per_s: Figure
    """Of the loader at full speed."""
    cpu_s_per_sample: Figure
    """Of the loader."""
    energy_j_per_sample: Mapping[str, Figure] = field(default_factory=dict)
    """Of the loader, by domain, with idle power."""
    steps: tuple[StepCard, ...] = ()
    starves: bool | None = None
    """Whether it is slower than the model's demand; None where there is none, or the interval holds it."""
    runs: int = 0
    """Runs that gave a score."""
    failed: int = 0
    """Runs that gave none."""
    left: str = ""
    """Why it left the race before its end; empty where it stayed."""
    score: Figure = field(default_factory=Figure.missing)
    training_cpu_s: Figure = field(default_factory=Figure.missing)
    """CPU seconds of a run: loader and model."""
    training_seconds: Figure = field(default_factory=Figure.missing)
    """Wall seconds of a run."""
    training_energy_j: Mapping[str, Figure] = field(default_factory=dict)
    """Joules of a run by domain; empty where no counter reads."""
    cost: Figure = field(default_factory=Figure.missing)
    """What decides: a run's joules together, or its CPU seconds, as `Comparison.unit` says."""
    seconds: float = 0.0
    """Wall seconds that profiling took."""


@dataclass(frozen=True, kw_only=True)
class Tie(Record):
    """Two strategies whose scores can't be told apart."""

    a: str
    b: str
    difference: Figure
    """``a``'s score less ``b``'s, paired by seed."""
    more_seeds: int | None
    """How many more seeds of both would part them, if the difference stays; None: more than 1,000."""


@dataclass(frozen=True, kw_only=True)
class StepUp(Record):
    """From one strategy of the Pareto set to the next that scores more."""

    lower: str
    """The strategy that costs less."""
    upper: str
    """The strategy that scores more."""
    points: Figure
    """Score gained, in points of `POINT`, paired by seed."""
    cost: Figure
    """What a training costs more, in `Comparison.unit`, paired by seed."""
    cost_per_point: Figure
    """``cost`` over ``points``; missing where that is unbounded."""


@dataclass(frozen=True, kw_only=True)
class LimitCheck(Record):
    """What one strategy's figures say to one limit."""

    strategy: str
    check: Check

    @property
    def kept(self) -> bool:
        """Whether the figure itself keeps to the limit, though its interval may hold it."""
        return self.check.outcome == "met" or (
            self.check.outcome == "undecided" and self.check.detail in (KEPT, KEPT_ONCE)
        )


KEPT = "the mean keeps to it, its interval holds the limit"
BROKEN = "the mean doesn't keep to it, its interval holds the limit"
KEPT_ONCE = "its one run keeps to it, which has no interval"
BROKEN_ONCE = "its one run doesn't keep to it, which has no interval"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The fields of a `greenload.strategies.data.Comparison`, which adds its file, its table and its page."""

    created: str
    """ISO 8601 date and time of the last measurement, with its offset from UTC."""
    greenload: str
    """The version that compared."""
    machine: Machine
    meters: tuple[MeterStatus, ...]
    key: str
    """Fingerprint of strategies, evaluation and settings: runs of another are never mixed in."""
    settings: Mapping[str, Any]
    """What was asked for: seeds, budget, limits and the like."""
    unit: str
    """What costs are told in, one of `UNITS`."""
    cards: tuple[Card, ...]
    """One for each strategy, in the order given."""
    runs: tuple[Run, ...] = ()
    """Every run, in the order in which they ended."""
    pareto: tuple[str, ...] = ()
    """The strategies that no other makes needless, the cheapest first."""
    steps_up: tuple[StepUp, ...] = ()
    ties: tuple[Tie, ...] = ()
    recommended: str | None = None
    """None where no strategy keeps to the limits, or nothing was scored."""
    reason: str = ""
    """Why, in one line."""
    limits: tuple[LimitCheck, ...] = ()
    """A verdict for each limit and strategy."""
    notes: tuple[str, ...] = ()
    finished: bool = False
    """Whether the comparison ended by itself; else it was stopped, and goes on from its file."""
    pictures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Augmented samples by strategy, as data URIs of PNG images (see `greenload.strategies.augmented`)."""
    checks: tuple[Check, ...] = ()
    """What became of budgets, and of the comparison with a baseline."""

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise UsageError(f"a comparison's unit is one of {UNITS}, found {self.unit!r}: use one of them")
        names = [card.strategy for card in self.cards]
        if len(set(names)) < len(names):
            raise UsageError(f"strategies have a card each, found {names}: leave repeated ones out")
        named = [self.recommended, *self.pareto, *(run.strategy for run in self.runs)]
        named += [name for tie in self.ties for name in (tie.a, tie.b)]
        named += [name for step in self.steps_up for name in (step.lower, step.upper)]
        named += [*(limit.strategy for limit in self.limits), *self.pictures]
        stranger = next((name for name in named if name is not None and name not in names), None)
        if stranger is not None:
            raise UsageError(f"a comparison names its own strategies, found {stranger!r} without a card: compare again")

    def card(self, strategy: str) -> Card:
        """The card of a strategy.

        Raises:
            UsageError: there is none of this name.
        """
        for card in self.cards:
            if card.strategy == strategy:
                return card
        names = ", ".join(card.strategy for card in self.cards)
        raise UsageError(f"a card is of a compared strategy, found {strategy!r}: name one of {names}")

    def tied_with(self, strategy: str) -> tuple[str, ...]:
        """The strategies whose scores can't be told from a strategy's, in the order of the ties."""
        return tuple(tie.b if tie.a == strategy else tie.a for tie in self.ties if strategy in (tie.a, tie.b))
