"""Rows are named by what the user wrote, and what a library made on its own belongs to the user's call."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

tf = pytest.importorskip("tensorflow")

from greenload.energy.attribution.costs import Indistinct  # noqa: E402
from greenload.energy.figures import Figure  # noqa: E402
from greenload.profiling.tfdata import report_rows, skipped  # noqa: E402
from greenload.profiling.tfdata.counting import count_elements  # noqa: E402
from greenload.profiling.tfdata.graph import Node  # noqa: E402
from greenload.profiling.tfdata.names import installed, lambda_text  # noqa: E402
from greenload.profiling.tfdata.rebuild import Builder  # noqa: E402
from greenload.profiling.tfdata.walk import walk  # noqa: E402
from greenload.report.cost_records import ClockRecord, ReportStep  # noqa: E402

Range = tf.data.Dataset.range


def here(lines: int = 0) -> str:
    """The caller's place, some lines on."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return f"test_names.py:{frame.f_back.f_lineno + lines}"


def tenth(x: Any) -> Any:
    """One class in ten is 1."""
    return tf.cast(x % 10 == 0, tf.int32)


def rows(root: Node) -> dict[str, str]:
    """Places of the nodes with a row, by name."""
    return {node.name: node.where for node in root.nodes() if not node.hidden}


def test_a_lambda_is_its_text() -> None:
    pair = (lambda x: x + 1, lambda x: (x, "é", 1), lambda a: lambda b: a * b)
    assert [lambda_text(one.__code__) for one in pair[:2]] == ["lambda x: x + 1", 'lambda x: (x, "é", 1)']
    assert lambda_text(pair[2](1).__code__) == "lambda b: a * b"
    (broken,) = [
        lambda x: x + 1000000000 + 2000000000
        + 3000000000
    ]  # fmt: skip
    assert lambda_text(broken.__code__) == "lambda x: x + 1000000000 + 2000…"
    assert lambda_text(eval("lambda x: x").__code__) == "<lambda>"


def test_packages_are_told_from_what_the_user_writes() -> None:
    assert installed(tf.__file__) and installed(inspect.__file__) and installed(inspect.getfile(walk))
    assert not installed(__file__) and not installed("<stdin>") and not installed("/tmp/ipykernel_7/123.py")


def test_what_a_library_makes_has_the_name_and_place_of_the_users_call(tmp_path: Path) -> None:
    import keras

    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        for number in range(2):
            picture = tf.io.encode_jpeg(tf.zeros([8, 8, 3], tf.uint8))
            tf.io.write_file(str(tmp_path / kind / f"{number}.jpg"), picture)
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n3,4\n")
    cases = {
        "image_dataset_from_directory": keras.utils.image_dataset_from_directory(tmp_path, verbose=False), "@0": here(),
        "bucket_by_sequence_length": Range(9).bucket_by_sequence_length(tenth, [2], [2, 2]), "@1": here(),
        "make_csv_dataset": tf.data.experimental.make_csv_dataset(str(table), 2, num_epochs=1), "@2": here(),
        "ragged_batch": Range(9).map(tf.range).ragged_batch(2), "@3": here(),
        "tf.io.read_file": tf.data.Dataset.list_files(f"{tmp_path}/*/*.jpg").map(tf.io.read_file), "@4": here(),
    }  # fmt: skip
    places = [place for name, place in cases.items() if name.startswith("@")]
    for place, name in zip(places, [name for name in cases if not name.startswith("@")], strict=True):
        root = walk(cases[name])
        assert rows(root)[name] == place, name
        assert not any(installed(node.file) for node in root.nodes() if node.file), name


def figure(value: float) -> Figure:
    """A figure that is known to 0.1."""
    return Figure(value, value - 0.1, value + 0.1, "measured")


def step(name: str, branch: str = "", cpu_s: float = 1.0) -> ReportStep:
    """A step of a report."""
    cost = figure(cpu_s)
    return ReportStep(
        name=name, stages=("map",), backend="tf", method="replay", branch=branch, cpu_s_per_sample=cost,
        energy_j_per_sample={"cpu": cost}, device_bytes_per_sample=cost, reads_per_sample=cost,
    )  # fmt: skip


def test_the_rows_of_one_call_are_one(tmp_path: Path) -> None:
    plain = Range(100).rejection_resample(tenth, [0.5, 0.5])
    for dataset in (plain, Range(100).rejection_resample(tenth, [0.5, 0.5], [0.9, 0.1])):
        root = walk(dataset.map(lambda c, x: x).batch(4))
        names = report_rows.row_names(root)
        shown = [node for node in root.nodes() if not node.hidden]
        assert list(names) == [node.name for node in shown]
        kept = [name for name, row in names.items() if row != "rejection_resample"]
        assert [name.partition(" (")[0] for name in kept[-2:]] == ["lambda c, x: x", "batch"]
        assert {name.partition(" (")[0] for name in kept[:-2]} == {"range"}
        merged = report_rows.merged_rows([step(node.name, node.branch) for node in shown], names)
        assert [one.name for one in merged] == [*kept[:-2], "rejection_resample", *kept[-2:]]
        (one,) = (one for one in merged if one.name == "rejection_resample")
        parts = len(shown) - len(kept)
        assert one.cpu_s_per_sample.value == pytest.approx(parts) and one.branch == "" and parts > 5
        groups = (Indistinct(("range", "rejection_resample"), "cpu_s", Figure.missing()),)
        assert report_rows.indistinct_rows(groups, names) == ()
    assert report_rows.row_names(walk(Range(3).map(tenth))) == {"range": "range", "tenth": "tenth"}


def test_a_row_of_several_clocks_says_what_all_of_them_saw() -> None:
    def clocked(name: str, waiting_s: float, calls: float, crossed: float) -> ReportStep:
        clock = ClockRecord(figure(waiting_s), calls, crossed, figure(2.0))
        return replace(step(name), method="in place", clock=clock)

    def merged(*parts: ReportStep) -> ReportStep:
        (one,) = report_rows.merged_rows(parts, dict.fromkeys([part.name for part in parts], "call"))
        return one

    first, second, passing = clocked("a", 0.5, 3.0, 0.2), clocked("b", 0.25, 1.0, 0.6), step("c", cpu_s=0.0)
    both = merged(first, second, passing)
    assert both.method == "in place" and both.clock is not None
    assert both.clock.waiting_s_per_sample.value == pytest.approx(0.75) and both.clock.calls_per_sample == 4.0
    assert both.clock.crossed_share == pytest.approx(0.3)
    assert both.clock.replay_cpu_s_per_sample is not None and both.clock.replay_cpu_s_per_sample.value == 4.0
    mixed = merged(first, second, step("c", cpu_s=1.0))
    assert mixed.method == "prefix" and mixed.clock == replace(both.clock, replay_cpu_s_per_sample=None)
    assert merged(step("c"), step("d")).clock is None


def test_rows_are_the_users_calls_and_numbered_among_themselves(tmp_path: Path) -> None:
    import keras

    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        for number in range(2):
            tf.io.write_file(str(tmp_path / kind / f"{number}.png"), tf.io.encode_png(tf.zeros([8, 8, 3], tf.uint8)))
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n3,4\n")

    def shown(dataset: Any) -> list[str]:
        root = walk(dataset)
        names = report_rows.row_names(root)
        assert len(names) == sum(not node.hidden for node in root.nodes())
        return [one.name for one in report_rows.merged_rows([step(name) for name in names], names)]

    pictures = keras.utils.image_dataset_from_directory(tmp_path, image_size=(8, 8), batch_size=2, verbose=False)
    place = here(-1)
    trained = pictures.map(lambda x, y: (x, y)).cache().shuffle(9).prefetch(2)
    made = "image_dataset_from_directory"
    assert shown(trained) == [made, "lambda x, y: (x, y)", "cache", "shuffle", "prefetch"]
    assert {node.where for node in walk(trained).nodes() if node.row == made} == {place}
    assert shown(pictures.batch(3).prefetch(1)) == [made, "batch", "prefetch"]
    for shuffles in (True, False):
        listed = tf.data.Dataset.list_files(f"{tmp_path}/*/*", shuffle=shuffles).shuffle(3)
        assert shown(listed.map(tf.io.read_file)) == ["list_files", "shuffle", "tf.io.read_file"]
    assert shown(tf.data.Dataset.counter().map(tenth).take(3)) == ["counter", "tenth"]
    kept = Range(3).snapshot(str(tmp_path / "1")).map(tenth).snapshot(str(tmp_path / "2"))
    assert shown(kept) == ["range", "snapshot", "tenth", "snapshot (2)"]
    assert shown(tf.data.experimental.make_csv_dataset(str(table), 2).prefetch(1)) == ["make_csv_dataset", "prefetch"]
    windows = keras.utils.timeseries_dataset_from_array(list(range(30)), list(range(30)), 5, batch_size=2)
    assert shown(windows.shuffle(4).batch(2)) == ["timeseries_dataset_from_array", "shuffle", "batch"]
    assert shown(tf.data.Dataset.from_tensor_slices(["a", "b"]).shuffle(2)) == ["from_tensor_slices", "shuffle"]
    assert shown(Range(9).map(tf.range).ragged_batch(2)) == ["range", "tf.range", "ragged_batch"]


def test_what_a_filter_throws_away_is_said(tmp_path: Path) -> None:
    def said(dataset: Any) -> list[tuple[str, str]]:
        root = walk(dataset)
        counts = count_elements(root, Builder(str(tmp_path)), 64, lambda: None)
        found = skipped.thrown_away(root, counts, lambda node: node.inputs[0])
        return [(one.name, one.reason) for one in found]

    ((name, reason),) = said(Range(40).filter(lambda x: x % 4 == 0).batch(2))
    assert name == "lambda x: x % 4 == 0" and reason == f"throws away 75 % of the elements that reach it at {here(-1)}"
    assert said(Range(40).filter(lambda x: x >= 0)) == []


@pytest.mark.slow
def test_no_advice_points_into_a_package_or_freezes_a_draw(tmp_path: Path) -> None:
    import random

    import keras

    from greenload.profiling.tfdata import rules
    from greenload.profiling.tfdata.remarks import drawn_while_traced

    def seen(dataset: Any) -> rules.MeasuredDataset:
        root = walk(dataset)
        costs = {node.name: Figure(1e-3, 9e-4, 1.1e-3, "measured") for node in root.nodes() if not node.hidden}
        counts = count_elements(root, Builder(str(tmp_path)), 64, lambda: None)
        return rules.MeasuredDataset(
            root, counts, costs, rules.main_line(root), 1e9, frozenset(drawn_while_traced(root))
        )

    def once(x: Any) -> Any:
        return tf.cast(x, tf.float32) * random.random()

    frozen = seen(Range(20).map(once).map(lambda x: x * 2).batch(4))
    kept = rules._keep(frozen)
    assert kept is None or kept.title == "Cache what range gives"
    assert rules._fuse_maps(frozen) is None
    assert rules._vectorise(seen(Range(20).map(once).batch(4))) is None
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        for number in range(3):
            tf.io.write_file(str(tmp_path / kind / f"{number}.png"), tf.io.encode_png(tf.zeros([8, 8, 3], tf.uint8)))
    place = here(1)
    pictures = keras.utils.image_dataset_from_directory(tmp_path, image_size=(8, 8), batch_size=2, verbose=False)
    found = seen(pictures.map(lambda x, y: (x / 255, y)))
    offered = [one for rule in rules.RULES if (one := rule(found)) is not None]
    assert not any(
        "keras" in one.detail.replace("keras.layers", "") or "site-packages" in one.detail for one in offered
    )
    (cached,) = (one for one in offered if one.title.startswith("Cache"))
    assert f"call image_dataset_from_directory at {place} with batch_size=None" in cached.detail
