"""What a profile is asked for, checked before anything is measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.profiling.options import Options


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"samples": 0}, "samples must be at least 1"),
        ({"samples": 2.5}, "samples must be at least 1"),
        ({"rounds": 1}, "rounds at least 2"),
        ({"rounds": True}, "rounds at least 2"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"on_error": "ignore"}, "on_error must be 'raise' or 'skip'"),
        ({"precision": 0.001}, "precision"),
        ({"samples_per_element": "columns"}, "samples_per_element must be a positive number"),
    ],
)
def test_an_argument_that_is_out_of_range_is_refused_by_its_name(arguments: dict[str, Any], text: str) -> None:
    pipeline = gl.Pipeline(gl.Arrays(np.zeros((2, 4, 4, 3), np.uint8)))
    with pytest.raises(gl.UsageError, match=text):
        gl.profile(pipeline, "tf", **arguments)


def test_numbers_of_numpy_become_those_of_python() -> None:
    """They are written to a report as JSON."""
    given: dict[str, Any] = {"samples": np.int64(8), "rounds": np.int32(3), "seed": np.uint8(5)}
    options = Options(**given, precision=np.float32(0.5), samples_per_element=np.float64(2.0))
    kinds = [type(getattr(options, name)) for name in (*given, "precision", "samples_per_element")]
    assert kinds == [int, int, int, float, float]
    assert replace(options, threads=2) == Options(
        samples=8, rounds=3, seed=5, precision=0.5, samples_per_element=2.0, threads=2
    )
