"""How processes end: a part of what `python -m bench.exits` runs, the forms and backends that failed most."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import exits
from bench.exit_forms import FORMS
from bench.exits import BACKENDS, end
from greenload.backends.native.library import why_missing

FEW = (
    ("dali-cpu", "map_prefetch"),
    ("pillow", "loop_sigint"),
    ("auto", "fit_error"),
    ("tf", "fork_exit"),
    ("native", "repeat"),
)
"""One of each: an iterator left alive, a thread that reads ahead, Ctrl-C, an error inside `fit`, a fork; and a
backend inside TensorFlow's graph."""
MORE = (
    ("auto", "repeat"),
    ("pillow", "thread"),
    ("auto", "bad_record"),
    ("tf", "iterate_at_exit"),
    ("native", "thread"),
    ("tf", "fork_exit_local"),
)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("backend", "form"), [*FEW, *(pytest.param(*one, marks=pytest.mark.long) for one in MORE)])
def test_a_process_ends_as_it_has_to(
    sample_folder: Path, backend: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorflow")
    pytest.importorskip("nvidia.dali")
    pytest.importorskip("PIL")
    if backend == "native" and (why := why_missing()):
        pytest.skip(why)
    monkeypatch.setattr(exits, "LIMIT_S", 90)  # a hang, on a busy machine too; the benchmark judges how long it takes
    monkeypatch.setattr(exits, "ENDING_S", 60)
    ended = end(backend, form, str(sample_folder))
    assert not ended.faults, f"{ended.faults}\n{ended.stderr}"


def test_all_forms_are_there() -> None:
    assert len(FORMS) >= 40
    assert {form for _, form in FEW + MORE} <= set(FORMS)
    assert {backend for backend, _ in FEW} == set(BACKENDS)
