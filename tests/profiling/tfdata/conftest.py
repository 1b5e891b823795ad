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
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a report holds doesn't depend on how many windows there are, nor how long. Trials have their own tests."""
    from greenload.profiling import windows
    from greenload.profiling.tfdata import advice, passes, profile
    from greenload.profiling.tfdata import campaign as dataset_campaign

    monkeypatch.setattr(windows, "WINDOW_S", 0.01)
    monkeypatch.setattr(windows, "BUILDS", 1)
    monkeypatch.setattr(profile, "CLOCKED_WINDOW_S", 0.01)
    monkeypatch.setattr(passes, "FILL_S", 0.01)
    monkeypatch.setattr(passes, "PASS_BUILDS", 1)
    monkeypatch.setattr(passes, "BUILDS", 1)
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
