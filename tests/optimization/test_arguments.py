"""What users may say of a training, and what they are told where they may not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from greenload import Arrays, Batch, Pipeline
from greenload.energy.figures import Figure
from greenload.errors import UsageError
from greenload.machine import processors
from greenload.optimization.arguments import (
    checked_allow,
    checked_bytes,
    checked_demand,
    checked_folder,
    checked_settings,
    checked_training,
)


def pipeline() -> Pipeline:
    return Pipeline(Arrays(np.zeros((24, 8, 8, 3), np.uint8), np.arange(24)), Batch(8))


@pytest.mark.parametrize(
    ("given", "number"),
    [("8GiB", 8 * 2**30), ("1.5 GB", 1_500_000_000), ("500mb", 500_000_000), ("12", 12), (0, 0), (2**33, 2**33)],
)
def test_bytes_are_read_with_their_unit(given: Any, number: int) -> None:
    assert checked_bytes("ram", given) == number


@pytest.mark.parametrize("given", ["8 gibberish", "-1", -1, "", None, float("nan"), True, [1], "1e3"])
def test_other_bytes_are_refused_with_the_value_and_the_remedy(given: Any) -> None:
    with pytest.raises(UsageError, match=r"^ram is a number of bytes, as '8GiB'.*: give one$"):
        checked_bytes("ram", given)


@pytest.mark.parametrize("given", ["2000/s", "2000", 2000, "2000 images/s", np.float32(2000)])
def test_a_demand_is_a_rate(given: Any) -> None:
    assert checked_demand(given) == 2000


def test_a_measured_demand_is_its_figure() -> None:
    assert checked_demand(SimpleNamespace(samples_per_s=Figure(750.0, 700.0, 800.0, "measured"))) == 750


@pytest.mark.parametrize("given", ["fast", 0, -3, "2000/min", float("inf"), SimpleNamespace(samples_per_s=None)])
def test_another_demand_is_refused(given: Any) -> None:
    with pytest.raises(UsageError, match=r"^demand is a rate, as '2000/s'"):
        checked_demand(given)


def test_what_is_allowed_comes_in_several_forms() -> None:
    assert checked_allow(("float16", "antialias")) == ("antialias", "float16")
    assert checked_allow("float16") == checked_allow({"pixels": {"float16"}}) == ("float16",)
    assert checked_allow({}) == checked_allow("") == ()
    with pytest.raises(UsageError, match="allow must be 'antialias', 'float16' or 'shrunk-cache', not 'grey'"):
        checked_allow("grey")
    with pytest.raises(UsageError, match="of 'pixels', not of 'labels'"):
        checked_allow({"labels": ()})


def test_a_folder_and_its_bytes_come_together(tmp_path: Path) -> None:
    assert checked_folder(None, None) == (None, 0)
    assert checked_folder(tmp_path / "new", "1MB") == (str(tmp_path / "new"), 1_000_000)
    assert (tmp_path / "new").is_dir()
    with pytest.raises(UsageError, match="comes without one: add folder="):
        checked_folder(None, "1MB")
    with pytest.raises(UsageError, match="add disk=, as '50GiB'"):
        checked_folder(tmp_path, None)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"can't be used: .*: name one that can be written"):
        checked_folder(tmp_path / "file" / "below", "1MB")


def test_a_training_has_the_samples_of_its_source_and_all_processors() -> None:
    training = checked_training(pipeline(), epochs=np.int64(3), ram="1GiB", demand="10/s", allow="float16")
    assert (training.samples, training.epochs, training.ram) == (24, 3, 2**30)
    assert (training.demand, training.allow, training.threads) == (10, ("float16",), processors())
    assert (training.disk, training.folder, training.objective) == (0, None, "energy")


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"epochs": 0}, "epochs must be a positive integer"),
        ({"threads": 0}, "threads must be a positive integer"),
        ({"objective": "time"}, "objective must be 'energy' or 'cpu'"),
    ],
)
def test_a_training_out_of_range_is_refused(changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(UsageError, match=rule):
        checked_training(pipeline(), **{"epochs": 3, "ram": 0} | changed)


@pytest.mark.parametrize("given", [{"seconds": 1}, {"seconds": "long"}, {"seed": -1}, {"records": 0}])
def test_settings_out_of_range_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^{next(iter(given))} must be"):
        checked_settings(**given)
    assert checked_settings(seconds=np.float64(9), seed=np.int64(4)).seconds == 9
