"""Tables of spans: what is outside functions is the process's, and what two datasets have is counted once."""

from __future__ import annotations

import json
from dataclasses import replace

from greenload.profiling.in_place.live import Live, live
from greenload.profiling.in_place.live_table import REST, render_live
from greenload.profiling.in_place.status import DatasetStatus, Status, from_value, span
from greenload.profiling.in_place.watched import Moment, Watched, WatchedStep
from greenload.report.columns import plain_text
from greenload.system import json_data
from greenload.system.work import Work

WORK = Work(100, 100, 1.0, 1.5)
DECODE = WatchedStep("decode", "map", lambda: WORK)
TRAIN = Watched("train.py:1", (DECODE, WatchedStep("crop", "map", lambda: WORK)))
TEST = Watched("train.py:2", (replace(DECODE, name="decode (2)"), WatchedStep("resize", "map", lambda: WORK)))
"""Both have the step that decodes, as two datasets made of a watched one."""


def moment(watched: Watched, cpu_s: float) -> Moment:
    return Moment(4.0, cpu_s, {step.name: step.read() for step in watched.steps}, 50.0)


def shown(made: Live) -> list[str]:
    return plain_text(render_live(made), 120).splitlines()


def test_of_one_dataset_the_rest_is_a_row() -> None:
    rest = [line for line in shown(live([(TRAIN, moment(TRAIN, 8.0))])) if REST in line]
    assert [" ".join(line.split()) for line in rest] == [f"{REST} 120 75 %"]


def test_of_several_the_rest_is_the_process_s_and_a_line() -> None:
    made = live([(each, moment(each, 12.0)) for each in (TRAIN, TEST)])
    assert [line for line in shown(made) if REST in line] == [f"outside functions ({REST}): 9.00 CPU s, 75 %"]


def test_a_step_of_two_datasets_is_counted_once() -> None:
    made = live([(each, moment(each, 12.0)) for each in (TRAIN, TEST)])
    assert [[row.step.name for row in each.steps] for each in made.datasets] == [["decode", "crop"], ["resize"]]
    assert made.datasets[1].counted_in == {"decode (2)": "train.py:1"} and made.rest_cpu_s == 9.0
    assert sum(made.share(each.cpu_s) or 0.0 for each in made.datasets) == 0.25
    assert "decode (2): counted in train.py:1" in shown(made)
    assert made.to_dict()["datasets"][1]["counted_in"] == {"decode (2)": "train.py:1"}


def test_it_is_counted_once_in_another_process_too() -> None:
    datasets = [
        DatasetStatus(each.number, each.name, each.sample_unit, each.steps, moment(each, 12.0))
        for each in (TRAIN, TEST)
    ]
    after = Status(7, "seven", ["python"], 1.0, 2.0, 4.0, 12.0, 0.0, datasets)
    before = replace(after, time_s=0.0, cpu_s=0.0, datasets=[])
    made = span(before, from_value(json_data.parse(json.dumps(after.to_dict()))))
    assert made.rest_cpu_s == 9.0 and list(made.datasets[1].counted_in) == ["decode (2)"]
