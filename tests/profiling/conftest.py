"""Fixtures of the tests of profiles: short windows on few builds."""

from __future__ import annotations

import pytest


@pytest.fixture
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a report holds doesn't depend on how many windows there are, nor how long; whether it is true does."""
    from greenload.energy.attribution import precision
    from greenload.profiling import schedule, windows

    for module in (windows, precision):
        monkeypatch.setattr(module, "WINDOW_S", 0.01)
    for module in (windows, schedule):
        monkeypatch.setattr(module, "BUILDS", 1)
    monkeypatch.setattr(schedule, "CLOCKED_WINDOW_S", 0.01)
    monkeypatch.setattr(schedule, "FILL_S", 0.01)
    monkeypatch.setattr(schedule, "PASS_BUILDS", 1)


@pytest.fixture
def few_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows as long as a user's on fewer builds, and no trials: for whether figures are true."""
    from greenload.profiling import profile, schedule
    from greenload.profiling.tfdata import advice

    monkeypatch.setattr(schedule, "PASS_BUILDS", 3)
    monkeypatch.setattr(profile, "TRIED", 0)
    monkeypatch.setattr(advice, "TRIED", 0)
