"""`Report`: a profile's result as frozen data with the JSON's own shape; checked against ``schema.json`` when read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from greenload.energy.attribution.costs import Cost, Indistinct, unattributed_shares
from greenload.energy.attribution.observation import Observation
from greenload.energy.figures import Figure
from greenload.energy.meters.base import MeterStatus
from greenload.errors import ReportError, UsageError
from greenload.machine import Machine
from greenload.public import public
from greenload.report.carbon import Carbon, estimate_carbon
from greenload.report.checks import Check
from greenload.report.cost_records import (
    CacheState,
    FirstEpoch,
    FullRun,
    IdleCost,
    IteratorStart,
    ReportStep,
)
from greenload.report.record import Record, json_fields, load_record, save_json, typed_fields
from greenload.report.validation import SCHEMA, validate
from greenload.system.json_data import short
from greenload.text import printable

UNATTRIBUTED_LIMIT = 0.05
"""Share of the held-out run that may be in no step before a report says so first."""


@dataclass(frozen=True, kw_only=True)
class Advice(Record):
    """A change to the pipeline, and how much it would save."""

    title: str
    """The change as an imperative, ``"Cache what parse gives"``."""
    detail: str
    """What to write and where, and what it costs otherwise: memory, other pixels."""
    method: str
    """``"trial"`` where the change was run beside the pipeline as it is, ``"estimate"`` where only worked out."""
    saves_cpu_s_per_sample: Figure
    saves_energy_j_per_sample: Mapping[str, Figure] = field(default_factory=dict)
    """Joules by domain, without idle power."""

    @property
    def is_remark(self) -> bool:
        """Whether it saves nothing that was looked for: it changes what is trained on, as random numbers drawn once."""
        return self.method == "estimate" and self.saves_cpu_s_per_sample.value is None


@dataclass(frozen=True)
class Skipped:
    """A record, step or stage that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Precision(Record):
    """How narrow the intervals were to be, what that took, and how narrow they are."""

    wanted: float
    """As a share: 0.05 asks that each step's interval is within ±5 % of the step, or ±1 % of the whole."""
    found: float | None
    """The same of the widest interval: at most ``wanted`` where it was reached; None where ``widest`` has no figure."""
    widest: str
    """Which interval is the widest: the step, or the whole, and the quantity."""
    builds: int
    """Independent builds that were measured."""
    rounds: int
    """Rounds of windows on each."""
    planned_s: float
    """Wall seconds that were announced as the longest."""
    took_s: float
    """Wall seconds that it took."""

    @property
    def reached(self) -> bool:
        """Whether the widest interval is as narrow as was asked."""
        return self.found is not None and self.found <= self.wanted


@dataclass(frozen=True)
class ColdRun(Record):
    """What was done so that files are read from their device, not from the page cache."""

    files: int
    """Files whose pages were dropped before each window that reads."""
    bytes: int
    """Their size."""
    resident_bytes: int | None
    """Bytes that were still in the page cache after dropping, at most; None where that is unknown."""
    problem: str = ""
    """Why some could not be dropped; empty where all were."""


@public
@dataclass(frozen=True)
class Report:
    """Where the energy of a pipeline goes.

    Example:
        >>> report = Report.load("report.json")
        >>> report.steps[0].cpu_s_per_sample.value
        0.00093
    """

    created: str
    """ISO 8601 date and time with its offset from UTC."""
    machine: Machine
    meters: tuple[MeterStatus, ...]
    pipeline: Mapping[str, Any]
    """The pipeline's ``to_dict()``, with ``name`` where it has one."""
    plan: Mapping[str, Any]
    """The plan's ``to_dict()``."""
    samples: int
    """Samples of the source that were profiled."""
    steps: tuple[ReportStep, ...]
    full: FullRun
    idle: IdleCost
    unattributed: Cost
    """``full`` less the sum of ``steps``."""
    total: Cost
    """``full`` with idle power."""
    first_epoch: FirstEpoch | None = None
    """What the first epoch costs, where it fills a cache: ``steps``, ``full``, ``idle``, ``unattributed``, ``total``
    and ``together`` are then those of later epochs, which read it. None where all epochs cost the same."""
    caches: tuple[CacheState, ...] = ()
    """The pipeline's caches, and which of them were filled already."""
    iterator_start: IteratorStart | None = None
    """What starting an iterator costs, once an epoch; None where windows didn't resolve it, or an epoch is so long
    that it can't be felt."""
    skipped: tuple[Skipped, ...] = ()
    advice: tuple[Advice, ...] = ()
    """The changes most worth making: remarks on what is trained on, then the largest saving first."""
    together: tuple[Indistinct, ...] = ()
    """Adjacent steps that are indistinguishable in one quantity, and their sum."""
    checks: tuple[Check, ...] = ()
    """What budgets and a baseline said."""
    carbon: Carbon | None = None
    """What a million samples emit; None where that wasn't asked."""
    precision: Precision | None = None
    """How narrow the intervals were to be, and were; None where that wasn't asked."""
    cold: ColdRun | None = None
    """What was dropped from the page cache before each window that reads; None where files were read as they were."""
    windows: tuple[Observation, ...] = ()
    """Every window, as observed: the figures can be worked out again."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UsageError(f"a report is of at least one sample, found {self.samples}: profile a set that has any")
        try:
            aware = datetime.fromisoformat(self.created).tzinfo is not None
        except ValueError:
            aware = False
        if not aware:
            raise UsageError(f"a report's creation time is ISO 8601 with an offset, found {self.created!r}: give one")

    def __repr__(self) -> str:
        """In a line: the whole is thousands of windows long, and `to_dict` has it."""
        name, backend = self.pipeline.get("name") or "pipeline", self.plan.get("backend")
        on = f" on {printable(backend)}" if backend else ""
        cpu = self.total.cpu_s_per_sample.value
        costs = ["CPU time unknown" if cpu is None else f"{cpu * 1e3:.3g} CPU ms a sample"]
        costs += [
            f"{printable(domain)} {figure.value * 1e3:.3g} mJ {figure.provenance}"
            for domain, figure in self.total.energy_j_per_sample.items()
            if figure.value is not None
        ]
        return (
            f"Report({short(printable(name))}{on}, {self.samples} samples, {len(self.steps)} steps: {', '.join(costs)})"
        )

    @property
    def own_steps(self) -> tuple[ReportStep, ...]:
        """The steps with what each costs in an epoch in which it runs: in front of a cache, that is the first one.

        They don't sum to ``full``: use them to look at one step.
        """
        first = {step.name: step for step in self.first_epoch.steps} if self.first_epoch else {}
        return tuple(first.get(step.name, step) if step.runs == "first epoch" else step for step in self.steps)

    def unattributed_exceeds(self, share: float = UNATTRIBUTED_LIMIT) -> dict[str, float]:
        """What no step explains, where that is more than ``share`` of the held-out run in either direction.

        Returns:
            Signed shares by kind of cost (``"cpu_s"``, or a domain that isn't modelled); empty where all is well.
        """
        shares = unattributed_shares(self.full, self.unattributed)
        return {name: part for name, part in shares.items() if abs(part) > share}

    def with_carbon(self, g_per_kwh: float | None = None, pue: float = 1.0) -> Report:
        """The report with grams of CO₂ equivalent, of the total with idle power.

        Args:
            g_per_kwh: the grid's factor; the world's average if None.
            pue: the data centre's power usage effectiveness.

        Raises:
            UsageError: a factor is out of range.
        """
        estimate = estimate_carbon(self.total.energy_j_per_sample, self.meters, g_per_kwh=g_per_kwh, pue=pue)
        return replace(self, carbon=estimate)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON data, valid by `SCHEMA`."""
        shown = {"schema": SCHEMA} | json_fields(self, Report)
        optional = {name: part for name in _OPTIONAL if (part := shown.pop(name))}
        windows = shown.pop("windows")
        return shown | optional | {"windows": windows}

    @classmethod
    def from_dict(cls, data: Any) -> Report:
        """The inverse of `to_dict`.

        Raises:
            ReportError: the data isn't a report of this version; names the value that breaks a rule.
        """
        validate(data)
        meters = [{"remedy": "", "meter": ""} | meter for meter in data["meters"]]
        try:
            return cls(**typed_fields(cls, {**data, "meters": meters}))
        except UsageError as error:
            raise ReportError(f"a report's figures must make sense: {error}; profile again") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as JSON: all of it, or the file stays as it was.

        Raises:
            ReportError: the file can't be written, or the report holds what JSON can't.
        """
        data = self.to_dict()
        validate(data)
        save_json(path, data)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """Read a report that `save` wrote, from a file, or from a pipe, as a shell's ``<(…)`` is.

        Raises:
            ReportError: the file can't be read, isn't JSON, or isn't a report of this version; names the file.
        """
        return load_record(path, cls.from_dict)


_OPTIONAL = ("carbon", "precision", "cold", "first_epoch", "iterator_start", "together", "checks", "caches")
"""Parts of a report, and lists, that its JSON leaves out where there are none; in its order."""
