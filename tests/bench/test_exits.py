"""How processes end: a part of what `python -m bench.exits` runs, the forms and backends that failed most."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.exit_forms import FORMS
from bench.exits import BACKENDS, Ended, end

PART = (
    ("auto", "repeat"),
    ("dali-cpu", "map_prefetch"),
    ("pillow", "loop_sigint"),
    ("auto", "fit_error"),
    ("pillow", "thread"),
    ("auto", "bad_record"),
    ("tf", "fork_exit"),
    ("tf", "iterate_at_exit"),
)


@pytest.fixture(scope="module")
def ends(sample_folder: Path) -> dict[tuple[str, str], Future[Ended]]:
    """Each process of the part; two run beside each other, as most of their time is TensorFlow's import."""
    pytest.importorskip("tensorflow")
    pytest.importorskip("nvidia.dali")
    pytest.importorskip("PIL")
    pool = ThreadPoolExecutor(2)
    ends = {(backend, form): pool.submit(end, backend, form, str(sample_folder)) for backend, form in PART}
    pool.shutdown(wait=False)
    return ends


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("backend", "form"), PART)
def test_a_process_ends_as_it_has_to(ends: dict[tuple[str, str], Future[Ended]], backend: str, form: str) -> None:
    ended = ends[backend, form].result()
    assert not ended.faults, f"{ended.faults}\n{ended.stderr}"


def test_all_forms_are_there() -> None:
    assert len(FORMS) >= 40
    assert {form for _, form in PART} <= set(FORMS)
    assert {backend for backend, _ in PART} == set(BACKENDS)
