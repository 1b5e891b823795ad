"""Something done right after a module's import, by whoever imports it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from greenload.system.after_import import after_import


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that isn't imported yet."""
    name = f"imported_late_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text("value = 1\nseen_at_import = globals().get('told')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_it_is_called_once_with_the_finished_module(module: str) -> None:
    told: list[object] = []
    after_import(module, told.append)
    assert not told
    imported = importlib.import_module(module)
    assert told == [imported] and imported.value == 1
    assert "exec_module" not in vars(imported.__spec__.loader)
    importlib.reload(imported)
    assert told == [imported]


def test_a_module_that_is_there_is_told_at_once(module: str) -> None:
    imported = importlib.import_module(module)
    told: list[object] = []
    before = list(sys.meta_path)
    after_import(module, told.append)
    assert told == [imported] and sys.meta_path == before


def test_other_modules_and_missing_ones_are_found_as_ever(module: str) -> None:
    after_import("greenload_has_no_such_module", lambda _: None)
    assert importlib.import_module(module).value == 1
    with pytest.raises(ModuleNotFoundError, match="greenload_has_no_such_module"):
        importlib.import_module("greenload_has_no_such_module")
