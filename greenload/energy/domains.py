"""`Domain`: what draws the power. Mappings, JSON and the command line have it as text, which only `Domain` parses."""

from __future__ import annotations

from dataclasses import dataclass

DOMAIN_KINDS = ("cpu", "dram", "gpu", "storage")
"""Kinds of domain that meters and models have figures of, in the order shown."""
_ALL = "all"


@dataclass(frozen=True, slots=True)
class Domain:
    """What draws the power: a kind, and which part of it.

    Example:
        >>> Domain.parse("cpu:package-0")
        Domain(kind='cpu', part='package-0')
        >>> str(Domain("storage", "nvme0n1")), str(Domain("dram"))
        ('storage:nvme0n1', 'dram')
    """

    kind: str
    """One of `DOMAIN_KINDS`; of emulated machines also ``"core"``."""
    part: str = ""
    """``"package-0"``, ``"0"`` of GPUs, a device's name; empty where a model is of the whole kind."""

    @classmethod
    def parse(cls, text: str) -> Domain:
        """The domain that a text names."""
        kind, _, part = text.partition(":")
        return cls(kind, part)

    def __str__(self) -> str:
        return f"{self.kind}:{self.part}" if self.part else self.kind

    @property
    def is_whole(self) -> bool:
        """Whether it stands for all of its kind, as a model does: ``cpu``, ``storage:all``."""
        return self.part in ("", _ALL)

    @property
    def follows_cpu(self) -> bool:
        """Whether its power above idle is drawn by CPU time, of this process and of others."""
        return self.kind in ("cpu", "dram")
