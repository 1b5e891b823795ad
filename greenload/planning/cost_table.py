"""A table of costs, as data: what each kind of work costs on each backend, on the machine that it was measured on.

Work is named by what decides its rate: ``"Resize antialias uint8"``, ``"Decode JPEG"``, ``"hand over encoded"``. Its
cost is linear in four terms, with rates that are never negative. One table is shipped, as a reference; ``greenload
calibrate`` measures another on the machine at hand, which then goes first.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from greenload.backends.native import library
from greenload.backends.readers import PACKAGES
from greenload.energy.domains import Domain
from greenload.errors import UsageError
from greenload.machine import cpu_model, package_versions
from greenload.system import cache_folder, file_output, forking, json_data
from greenload.system.json_data import DataError, Value

FORMAT = "greenload.costs/1"
"""What a stored table begins with; another number is another format."""
REFERENCE, OWN = "reference", "this machine"
"""Where a table comes from."""
LARGEST_RATE = 1e9
"""The most CPU seconds, or joules, that a table may give for one of anything: far beyond all work, and no overflow."""
_PACKAGES = (*PACKAGES, "numpy")


@dataclass(frozen=True)
class CostTerms:
    """How much of something is done for an image; or, as rates, what one of each costs."""

    image: float = 0.0
    """Images: 1, or 0 where nothing is done for each."""
    batch: float = 0.0
    """Calls: one over the batch size."""
    entering: float = 0.0
    """Megapixels of three channels that enter; megabytes while they are encoded, and where images are transferred."""
    leaving: float = 0.0
    """The same of what leaves."""

    def at(self, rates: CostTerms) -> float:
        """What these amounts cost at some rates."""
        return (
            self.image * rates.image
            + self.batch * rates.batch
            + self.entering * rates.entering
            + self.leaving * rates.leaving
        )

    def times(self, factor: float) -> CostTerms:
        """All four, so many times."""
        return CostTerms(factor * self.image, factor * self.batch, factor * self.entering, factor * self.leaving)


def typical(what: str) -> CostTerms:
    """The amounts by which entries for a kind of work are compared: a photograph of 82 kB and 500 × 375 made small, in
    batches of 32."""
    if what.startswith("DecodeCrop"):
        return CostTerms(1.0, 1 / 32, 0.082, 0.08)
    if what.startswith("Decode"):
        return CostTerms(1.0, 1 / 32, 0.082, 0.19)
    if what.startswith("Resize"):
        return CostTerms(1.0, 1 / 32, 0.08, 0.05)
    if what[0].islower() or what == "Batch":  # around steps, in megabytes
        return CostTerms(1.0, 1 / 32, 0.15, 0.15)
    return CostTerms(1.0, 1 / 32, 0.05, 0.05)


@dataclass(frozen=True)
class Entry:
    """What one kind of work costs on one backend."""

    backend: str
    what: str
    cpu_s: CostTerms
    """Rates in CPU seconds."""
    energy_j: Mapping[str, CostTerms] = field(default_factory=dict)
    """Rates in joules by domain, net of the idle machine; only what a meter measured."""
    note: str = ""
    """How it was found, where not by running this work with and without it."""

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON data."""
        data = {"backend": self.backend, "what": self.what, "cpu_s": asdict(self.cpu_s)}
        energy = {domain: asdict(rates) for domain, rates in self.energy_j.items()}
        return data | ({"energy_j": energy} if energy else {}) | ({"note": self.note} if self.note else {})

    @classmethod
    def _from_value(cls, value: Value) -> Entry:
        energy, note = value.get("energy_j"), value.get("note")
        work = value.field("what")
        if not work.text().split():
            work.refuse("the name of some work")
        return cls(
            value.field("backend").text(),
            work.text(),
            _rates(value.field("cpu_s")),
            {domain: _rates(rates) for domain, rates in energy.mapping().items()} if energy else {},
            note.text() if note else "",
        )


def _rates(value: Value) -> CostTerms:
    given = value.mapping()
    if not set(given) <= {part.name for part in fields(CostTerms)}:
        value.refuse(f"rates by {', '.join(part.name for part in fields(CostTerms))}")
    return CostTerms(**{name: rate.number(0.0, LARGEST_RATE) for name, rate in given.items()})


@dataclass(frozen=True)
class CostTable:
    """What work costs on one machine.

    Example:
        >>> reference().get("tf", "Resize antialias uint8").cpu_s.leaving
    """

    source: str
    """``"reference"`` or ``"this machine"``."""
    created: str
    """When it was measured: a date, ISO 8601."""
    machine: Mapping[str, Any]
    """What ``facts`` gave where it was measured."""
    entries: tuple[Entry, ...]
    seconds: float = 0.0
    """How long measuring took."""
    samples: str = ""
    """What it was measured on."""

    @forking.cached_property
    def _by_name(self) -> dict[tuple[str, str], Entry]:
        return {(entry.backend, entry.what): entry for entry in self.entries}

    def get(self, backend: str, what: str) -> Entry | None:
        """The entry for a kind of work, if there is one."""
        return self._by_name.get((backend, what))

    def like(self, backend: str, what: str) -> Entry | None:
        """The entry for the most similar work on a backend: the same operation on another dtype, kind of file or
        variant."""
        words = what.split()
        alike = [entry for entry in self.entries if entry.backend == backend and entry.what.split()[0] == words[0]]
        return max(alike, key=lambda entry: len(set(words) & set(entry.what.split())), default=None)

    @property
    def label(self) -> str:
        """Which costs these are, in a few words."""
        where = f"{self.machine.get('cpu_model', 'another machine')}, {self.created[:10]}"
        if self.source == OWN:
            return f"costs of this machine, {self.created[:10]}"
        return f"reference costs of {where}; greenload calibrate measures this machine's"

    def to_dict(self) -> dict[str, Any]:
        """The table as JSON data."""
        return {
            "format": FORMAT,
            "source": self.source,
            "created": self.created,
            "seconds": self.seconds,
            "samples": self.samples,
            "machine": dict(self.machine),
            "entries": [entry.to_dict() for entry in self.entries],
        }

    @classmethod
    def from_dict(cls, data: Any) -> CostTable:
        """The table that ``to_dict`` described.

        Raises:
            UsageError: it isn't one, or a part is damaged.
        """
        try:
            return cls._from_value(Value(data))
        except DataError as error:
            raise UsageError(f"a table of costs can't be used: {error}: run greenload calibrate") from None

    @classmethod
    def _from_value(cls, value: Value) -> CostTable:
        value.field("format").text(among=(FORMAT,))
        seconds, created, samples = value.get("seconds"), value.get("created"), value.get("samples")
        machine = value.field("machine")
        machine.mapping()
        return cls(
            value.field("source").text(among=(REFERENCE, OWN)),
            created.text() if created else "",
            machine.plain(),
            tuple(Entry._from_value(entry) for entry in value.field("entries").list()),
            seconds.number() if seconds else 0.0,
            samples.text() if samples else "",
        )


@dataclass(frozen=True)
class Rates:
    """The rates for some work, and how they were come by."""

    cpu_s: CostTerms
    energy_j: Mapping[str, CostTerms]
    origin: str
    """``""`` where the first table has them; else where they are from."""


@dataclass(frozen=True)
class Costs:
    """A table, and the reference for what it lacks."""

    table: CostTable
    fallback: CostTable | None = None

    @forking.cached_property
    def scale(self) -> float:
        """How much CPU time this machine takes for what took the fallback's a second: the median over common
        entries."""
        ratios = []
        for entry in self.table.entries:
            other = self.fallback.get(entry.backend, entry.what) if self.fallback else None
            amounts = typical(entry.what)
            mine, theirs = amounts.at(entry.cpu_s), amounts.at(other.cpu_s) if other else 0.0
            if mine > 0 and theirs > 0:
                ratios.append(mine / theirs)
        return statistics.median(ratios) if ratios else 1.0

    def find(self, backend: str, what: str) -> Rates | None:
        """The rates for some work: the table's; else the fallback's, scaled to this machine; else those of similar
        work on that backend, from either. ``None`` where nothing comes near."""
        if (entry := self.table.get(backend, what)) is not None:
            return Rates(entry.cpu_s, entry.energy_j, _noted(entry, ""))
        if self.fallback is not None and (entry := self.fallback.get(backend, what)) is not None:
            return self._scaled(entry, f"{what} on {backend}: reference × {self.scale:.2g}")
        if (entry := self.table.like(backend, what)) is not None:
            return Rates(entry.cpu_s, entry.energy_j, _noted(entry, f"{what} on {backend}: as {entry.what}"))
        if self.fallback is not None and (entry := self.fallback.like(backend, what)) is not None:
            return self._scaled(entry, f"{what} on {backend}: as {entry.what}, reference × {self.scale:.2g}")
        return None

    def nearest(self, backend: str, what: str) -> Entry | None:
        """The entry for the most similar work on a backend, of the table, else of the fallback."""
        entry = self.table.like(backend, what)
        return self.fallback.like(backend, what) if entry is None and self.fallback is not None else entry

    def _scaled(self, entry: Entry, origin: str) -> Rates:
        """A fallback's entry; its joules only where they aren't the CPU's, which are another machine's too."""
        other = {domain: rates for domain, rates in entry.energy_j.items() if Domain.parse(domain).kind == "gpu"}
        return Rates(entry.cpu_s.times(self.scale), other, _noted(entry, origin))


def _noted(entry: Entry, origin: str) -> str:
    return f"{entry.backend}: {entry.note}" if entry.note else origin


@functools.cache
def reference() -> CostTable:
    """The shipped table: another machine's."""
    text = resources.files("greenload.planning").joinpath("costs.json").read_text(encoding="utf-8")
    return CostTable.from_dict(json_data.parse(text).data)


def facts(cpus: int) -> dict[str, Any]:
    """What a table holds for: the processor, how many of them, and the versions of what does the work.

    Args:
        cpus: how many processors this process may use.
    """
    packages = package_versions(_PACKAGES) | {"greenload's kernel": library.fingerprint()}
    return {"cpu_model": cpu_model(), "cpus": cpus, "packages": packages}


def table_path(machine: Mapping[str, Any]) -> Path:
    """The file in the user's cache folder where a machine's own table is kept; another for other facts or format."""
    text = json.dumps([FORMAT, machine], sort_keys=True)
    key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return cache_folder.locate(f"costs-{key}.json")


def recall_table(machine: Mapping[str, Any]) -> CostTable | None:
    """The table that was measured on a machine, if there is one. One that is damaged or can't be read is passed over
    with a warning."""
    return cache_folder.recall(
        table_path(machine),
        lambda content: CostTable._from_value(json_data.parse(content)),
        "this table of costs",
        "run greenload calibrate to measure it anew",
    )


def prepared(machine: Mapping[str, Any]) -> Path:
    """The file for a machine's table, in a folder that is there and can be written.

    Raises:
        UsageError: it can't; says how to name another.
    """
    path = table_path(machine)
    remedy = "name another folder by the environment variable XDG_CACHE_HOME"
    try:
        cache_folder.prepare(path)
    except OSError as error:
        raise UsageError(f"{path.parent}: costs can't be kept there ({error.strerror}): {remedy}") from None
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path.parent}: costs can't be kept there (permission denied): {remedy}")
    return path


def remember_table(table: CostTable) -> Path:
    """Keep a machine's table in the user's cache folder, in place of an older one.

    Raises:
        UsageError: the folder can't be written.
        OSError: the file can't, as on a full disk.
    """
    path = prepared(table.machine)
    try:
        cache_folder.keep(path, json.dumps(table.to_dict(), indent=1) + "\n")
    except OSError as error:
        raise OSError(f"{path}: costs can't be kept there: {file_output.why(error)}") from None
    return path


def in_use(cpus: int) -> Costs:
    """The costs that plans are made by: this machine's, if they were measured, else the reference."""
    own = recall_table(facts(cpus))
    return Costs(own, reference()) if own else Costs(reference())
