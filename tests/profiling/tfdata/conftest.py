"""Fixtures of the tests of datasets: short windows, and the examples' modules."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("tensorflow")

EXAMPLES = Path(__file__).parent / "examples"


@pytest.fixture
def short_windows(short_windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short ones. Trials have their own tests."""
    from greenload.profiling.tfdata import advice
    from greenload.profiling.tfdata import campaign as dataset_campaign

    monkeypatch.setattr(dataset_campaign, "SHORTEST_S", 0.01)
    monkeypatch.setattr(advice, "TRIED", 0)


@pytest.fixture
def example() -> Callable[[str], ModuleType]:
    """Loads one of the examples."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"_example_{name}", EXAMPLES / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # AutoGraph looks functions up there
        spec.loader.exec_module(module)
        return module

    return load
