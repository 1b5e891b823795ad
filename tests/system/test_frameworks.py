"""Frameworks are imported when something of them is first used, not before."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from greenload.system.frameworks import LazyModule, imported


def test_a_module_is_imported_when_something_of_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_framework.py").write_text("ANSWER = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    framework = LazyModule("a_framework")
    assert not hasattr(framework, "__qualname__"), "what tools ask of every value"
    assert "a_framework" not in sys.modules
    assert framework.ANSWER == 42
    with pytest.raises(AttributeError, match="missing"):
        _ = framework.missing
    monkeypatch.delitem(sys.modules, "a_framework")


def test_a_module_that_cannot_be_imported_says_so() -> None:
    with pytest.raises(ImportError, match="no_such_framework"):
        _ = LazyModule("no_such_framework").anything


def test_an_import_goes_without_garbage_collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "another_framework.py").write_text("import gc\n\nCOLLECTED = gc.isenabled()\n")
    (tmp_path / "a_broken_framework.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert gc.isenabled()
    assert not imported("another_framework").COLLECTED
    with pytest.raises(ImportError, match="no_such_module"):
        imported("a_broken_framework")
    assert gc.isenabled()
    monkeypatch.delitem(sys.modules, "another_framework")
