"""A watched dataset is the same dataset, and its clocks count what its functions do."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from dataset_cases import CASES, Range, elements, plus  # noqa: E402

import greenload as gl  # noqa: E402
from greenload.backends.native import counters, library, op  # noqa: E402
from greenload.profiling.in_place import states  # noqa: E402
from greenload.profiling.in_place.live import live  # noqa: E402
from greenload.profiling.in_place.watched import all_watched  # noqa: E402
from greenload.profiling.tfdata.rebuild import Builder  # noqa: E402
from greenload.profiling.tfdata.walk import walk  # noqa: E402

pytestmark = pytest.mark.skipif(not op.usable(), reason=library.why_missing() or "there are operations")

BURN_S = 0.002


def burn(seconds: float = BURN_S) -> None:
    """Take so much of the thread's CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def burnt(x: Any) -> Any:
    """Its argument, after some CPU time."""

    def call(value: Any) -> Any:
        burn()
        return value

    y = tf.numpy_function(call, [x], x.dtype)
    y.set_shape(x.shape)
    return y


class Steps:
    """Functions with state: a variable, a table, random numbers."""

    def __init__(self) -> None:
        tf.keras.utils.set_random_seed(7)
        self.calls = tf.Variable(0, dtype=tf.int64)
        keys, values = tf.constant(["a", "b"]), tf.constant([1, 2])
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0)
        self.generator = tf.random.Generator.from_seed(3)

    def counted(self, x: Any) -> Any:
        return x + self.calls.assign_add(1)

    def looked_up(self, x: Any) -> Any:
        return self.table.lookup(tf.gather(["a", "b", "c"], x % 3))

    def drawn(self, x: Any) -> Any:
        return x, self.generator.uniform(()), tf.random.uniform(()), tf.random.stateless_uniform((2,), [x, 1])


def odd_structure(x: Any) -> Any:
    """Ragged, sparse, strings, optional, nested."""
    ragged = tf.RaggedTensor.from_row_lengths(tf.range(x + 3), tf.stack([x, 3]))
    optional = tf.experimental.Optional.from_value(x)
    return {"a": (ragged, tf.sparse.from_dense([0, 1])), "b": ["text", tf.strings.as_string(x)]}, optional.get_value()


@tf.function
def called(x: Any, y: Any) -> Any:
    """A function that another calls, with a branch and a loop."""
    if x % 2 == 0:
        y = y + 1
    for _ in tf.range(x):
        y *= 2
    return y


FUNCTIONS: dict[str, Callable[[], Any]] = {
    "variable": lambda: Range(9).map(Steps().counted),
    "table": lambda: Range(9).map(Steps().looked_up, 2),
    "random numbers": lambda: Range(9).map(Steps().drawn).repeat(2),
    "structures": lambda: Range(5).map(odd_structure).map(lambda d, x: (x, d)),
    "argument unused": lambda: Range(5).map(lambda x: tf.constant(4) + 1),
    "constant": lambda: Range(5).map(lambda x: tf.constant(4)),
    "argument given back": lambda: Range(5).map(lambda x: x).map(lambda x: (x, x)),
    "function in a function": lambda: Range(6).map(lambda x: called(x, x + 1), 2).filter(lambda x: called(x, x) > 3),
    "several arguments": lambda: tf.data.Dataset.zip((Range(5), Range(9))).map(lambda x, y: (y, x + y)),
    "in Python": lambda: Range(5).map(lambda x: tf.py_function(lambda v: v * 2, [x], tf.int64)),
    "assertion": lambda: Range(5).map(lambda x: (tf.debugging.assert_less(x, tf.constant(9, tf.int64)), x)[1]),
    "datasets in a map": lambda: Range(4).map(lambda x: Range(x).map(lambda y: y + x)).flat_map(lambda d: d),
    "nested twice": lambda: Range(3).flat_map(
        lambda a: Range(3).interleave(lambda b: Range(4).map(lambda c: a * 100 + b * 10 + c))
    ),
    "cache behind a map": lambda: Range(9).map(lambda x: x * 2).cache().shuffle(9, seed=4).batch(4),
    "random order behind a map": lambda: Range(30).map(lambda x: x * 2).shuffle(9).batch(4),
    "random order, the same each time": lambda: (
        Range(30).map(lambda x: x * 2).shuffle(9, reshuffle_each_iteration=False).batch(4)
    ),
    "two branches of one": lambda: tf.data.Dataset.zip((Range(9).map(lambda x: x + 1).shuffle(9, seed=2),) * 2),
    "groups": lambda: (
        Range(20).map(lambda x: x + 1).group_by_window(lambda x: x % 3, lambda k, d: d.map(lambda x: x + k).batch(3), 3)
    ),
    "batch functions": lambda: Range(20).batch(6).map(lambda x: x * 2, 2, deterministic=True).unbatch().batch(5),
    "generator behind a map": lambda: (
        tf.data.Dataset.from_generator(lambda: iter(range(6)), output_signature=tf.TensorSpec((), tf.int64))
        .map(lambda x: x + 1)
        .prefetch(2)
    ),
}

WITHOUT_CLOCK = {
    "shuffle", "shuffle, the same each time", "batches", "zip", "one branch twice", "choose", "sample", "concatenate",
    "windows", "dicts", "records, in parallel", "interleave", "interleave, parallel", "random", "snapshot",
    "file cache", "options", "cardinality", "argument given back",
}  # fmt: skip
"""Cases without a function that can have one."""
WITHOUT_CALLS = {*WITHOUT_CLOCK, "argument unused", "constant"}
"""And those whose function TensorFlow replaces by what it gives."""


@pytest.mark.parametrize("case", [*CASES, *FUNCTIONS])
def test_a_watched_dataset_is_the_same(case: str, tmp_path: Path) -> None:
    def fresh() -> Any:
        tf.keras.utils.set_random_seed(5)
        return CASES[case](tmp_path) if case in CASES else FUNCTIONS[case]()

    expected = fresh()
    given = fresh()
    watched = gl.watch(given)
    assert bool(watched.watched.steps) == (case not in WITHOUT_CLOCK)
    assert watched.element_spec == given.element_spec
    assert watched.options() == given.options()
    assert int(watched.cardinality()) == int(given.cardinality())
    epochs = [elements(expected) for _ in range(4)]
    assert epochs[0]
    assert [elements(one) for one in (watched, given, watched, given)] == epochs  # they share their state
    assert any(step.read().calls for step in watched.watched.steps) == (case not in WITHOUT_CALLS)


def test_functions_are_not_traced_again() -> None:
    calls = []

    def parse(x: Any) -> Any:
        calls.append(1)
        return x + 1

    dataset = Range(5).map(parse).filter(lambda x: x > 1).interleave(lambda n: Range(n).map(parse), cycle_length=1)
    traced = len(calls)
    assert elements(gl.watch(dataset))
    assert len(calls) == traced


def test_clocks_count_calls_under_the_names_of_functions() -> None:
    dataset = Range(100).map(plus_one, 2).filter(lambda x: x % 2 == 0).batch(8).prefetch(2)
    watched = gl.watch(dataset).watched
    before = watched.read()
    assert len(list(Range(0))) == 0
    first, second = watched.steps
    assert (first.name, first.kind, first.where.partition(":")[0]) == ("plus_one", "map", "test_watch.py")
    assert second.kind == "filter"
    assert [work.calls for work in before.steps.values()] == [0, 0]


def plus_one(x: Any) -> Any:
    """Adds one."""
    return plus(x, 1)


def test_all_iterators_and_derived_datasets_are_counted_together() -> None:
    dataset = gl.watch(Range(40).map(plus_one, 2))
    before = dataset.watched.read()
    assert len(list(dataset)) == 40
    assert len(list(dataset.batch(8).repeat(2).prefetch(1))) == 10
    assert len(list(dataset.map(lambda x: x * 2).take(40).as_numpy_iterator())) == 40
    assert (dataset.watched.read() - before).steps["plus_one"].calls == 160


def test_a_dataset_in_a_tf_function_is_counted() -> None:
    dataset = gl.watch(Range(40).map(plus_one))

    @tf.function
    def total() -> Any:
        result = tf.constant(0, tf.int64)
        for x in dataset:
            result += x
        return result

    assert int(total()) == 820
    assert dataset.watched.read().steps["plus_one"].calls == 40


@pytest.mark.slow
def test_an_iterator_is_kept_in_a_checkpoint(tmp_path: Path) -> None:
    iterator = iter(gl.watch(Range(9).map(plus_one).shuffle(3, seed=1)))
    first = [int(next(iterator)) for _ in range(4)]
    saved = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "at"))
    rest = [int(x) for x in iterator]
    again = iter(gl.watch(Range(9).map(plus_one).shuffle(3, seed=1)))
    tf.train.Checkpoint(iterator=again).restore(saved)
    assert [int(x) for x in again] == rest
    assert sorted(first + rest) == list(range(1, 10))


@pytest.mark.alone
def test_clocks_tell_the_cpu_time_of_functions() -> None:
    dataset = gl.watch(
        Range(60)
        .map(burnt, 2, name="burnt")
        .map(lambda x: burnt(burnt(x)), 2, name="twice")
        .map(plus_one, name="light")
        .interleave(lambda x: tf.data.Dataset.from_tensors(x).map(burnt, name="inside"), 2)
    )
    for _ in dataset:
        pass
    steps = dataset.watched.read().steps
    assert [work.calls for work in steps.values()] == [60] * 4
    for name, times in (("burnt", 1), ("twice", 2), ("inside", 1)):
        assert steps[name].cpu_s_per_call == pytest.approx(times * BURN_S, rel=0.25), steps
    assert steps["light"].cpu_s_per_call < BURN_S / 4


@pytest.mark.alone
def test_a_clock_tells_waiting_from_work() -> None:
    def sleep(x: Any) -> Any:
        time.sleep(0.01)
        return x

    dataset = gl.watch(Range(20).map(lambda x: tf.numpy_function(sleep, [x], tf.int64), name="asleep"))
    for _ in dataset:
        pass
    work = dataset.watched.read().steps["asleep"]
    assert work.waiting_s_per_call >= 0.009
    assert work.cpu_s_per_call < 0.005


def test_a_clock_counts_generators_and_functions_in_python() -> None:
    def numbers() -> Any:
        for x in range(10):
            burn(0.001)
            yield x

    dataset = gl.watch(tf.data.Dataset.from_generator(numbers, output_signature=tf.TensorSpec((), tf.int64)))
    assert elements(dataset) == [f"[{x}]" for x in range(10)]
    (step,) = dataset.watched.steps
    assert (step.name, step.kind) == ("numbers", "from_generator")
    work = step.read()
    assert work.calls == 10
    assert work.cpu_s >= 0.009


def test_a_function_never_has_two_clocks() -> None:
    first = gl.watch(Range(20).map(plus_one, name="first"))
    assert gl.watch(first) is first
    second = gl.watch(first.map(plus_one, name="second").batch(4))
    assert [step.name for step in second.watched.steps] == ["first", "second"]
    third = gl.watch(second.unbatch().filter(lambda x: x > 0, name="third"))
    assert elements(third) == elements(Range(2, 22))
    for watched in (second.watched, third.watched):
        assert {work.calls for work in watched.read().steps.values()} == {20}
    assert first.watched.read().steps["first"].calls == 20
    assert third.watched in all_watched()
    assert first.watched not in all_watched()


def test_watched_datasets_joined_keep_their_clocks_and_have_names_of_their_own() -> None:
    one, two = gl.watch(Range(9).map(plus_one)), gl.watch(Range(9).map(plus_one))
    both = gl.watch(tf.data.Dataset.zip((one, two)))
    assert len(list(both)) == 9
    steps = both.watched.read().steps
    assert list(steps) == ["plus_one", "plus_one (2)"]
    assert [work.calls for work in steps.values()] == [9, 9]


def test_a_clock_counts_once_wherever_a_watched_part_stands() -> None:
    part = gl.watch(Range(9).map(plus_one))
    for joined, calls in ((part.concatenate(part), 18), (tf.data.Dataset.zip(part, part), 18)):
        watched = gl.watch(joined).watched
        before = watched.read()
        assert [step.name for step in watched.steps] == ["plus_one"]
        assert watched.unwatched["plus_one (2)"] == "it is the same dataset as plus_one, which counts for both"
        list(joined)
        done = watched.read() - before
        assert (done.steps["plus_one"].calls, done.samples) == (calls, None)
    train, rest = gl.watch(part.skip(3).map(lambda x: x + 1, name="train")), gl.watch(part.take(3))
    list(train)
    first, second = live([(each, each.read()) for each in (train.watched, rest.watched)]).datasets
    assert [row.step.name for row in first.steps] == ["plus_one", "train"]
    assert (second.steps, second.samples) == ((), None)
    assert second.counted_in == {"plus_one": train.watched.name}
    alone = live([(rest.watched, rest.watched.read())]).datasets[0]
    assert [row.step.name for row in alone.steps] == ["plus_one"]


def test_what_has_no_clock_is_named_with_a_reason() -> None:
    dataset = Range(9).map(lambda x: x, name="same").map(plus_one).shuffle(4).batch(2).prefetch(1)
    watched = gl.watch(dataset).watched
    assert list(watched.unwatched) == ["range", "same", "shuffle", "batch", "prefetch"]
    assert watched.unwatched["batch"] == "no function: its work is in the hand-over"
    assert "gives its arguments back" in watched.unwatched["same"]


def test_a_dataset_of_an_unknown_class_stays_as_it_is() -> None:
    from tensorflow.python.data.ops.dataset_ops import UnaryUnchangedStructureDataset

    class Unheard(UnaryUnchangedStructureDataset):  # type: ignore[misc]
        def __init__(self, source: Any) -> None:
            super().__init__(source, source._variant_tensor)

    dataset = gl.watch(Unheard(Range(9).map(plus_one)).map(plus_one))
    assert elements(dataset) == elements(Range(2, 11))
    assert [step.read().calls for step in dataset.watched.steps] == [9]
    assert dataset.watched.unwatched == {"Unheard": "a Unheard, which greenload can't build again"}


def test_a_shuffle_whose_order_cannot_be_shared_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "_MOST_BYTES", 1 << 10)
    source = tf.data.Dataset.from_tensor_slices(np.zeros((9, 1000)))
    dataset = source.map(plus_one, name="before").shuffle(9).map(plus_one, name="behind")
    watched = gl.watch(dataset)
    assert len(list(watched)) == 9
    assert {step.name: step.read().calls for step in watched.watched.steps} == {"behind": 9}
    assert watched.watched.unwatched["before"].startswith("the shuffle behind it can't be built again: more than")


def test_a_split_of_one_order_stays_a_split() -> None:
    whole = Range(40).map(plus_one).shuffle(40, reshuffle_each_iteration=False)
    train, rest = gl.watch(whole.skip(10)), gl.watch(whole.take(10))
    assert sorted(int(x) for part in (train, rest) for x in part) == list(range(1, 41))


def test_the_name_is_the_place_of_the_call() -> None:
    assert gl.watch(Range(3)).watched.name.startswith("test_watch.py:")


def test_samples_are_counted_where_calls_tell_them() -> None:
    def left(dataset: Any, passes: int = 1) -> tuple[float | None, str]:
        dataset = gl.watch(dataset)
        for _ in range(passes):
            for _ in dataset:
                pass
        return dataset.watched.read().samples, dataset.watched.sample_unit

    assert left(Range(50).map(plus_one).shuffle(9).prefetch(2)) == (50, "element")
    assert left(Range(50).map(plus_one, 2).batch(8).prefetch(2)) == (50, "row")
    assert left(Range(50).batch(8).map(plus_one)) == (50, "row")
    assert left(Range(50).batch(8, drop_remainder=True).map(plus_one)) == (48, "row")
    assert left(Range(50).map(plus_one).cache().batch(8).map(plus_one), 2) == (100, "row")
    assert left(Range(50).map(plus_one).cache()) == (None, "element")
    assert left(Range(50).map(plus_one).filter(lambda x: x > 9)) == (None, "element")
    assert left(tf.data.Dataset.zip((Range(9), Range(9).map(plus_one)))) == (9, "element")
    assert left(Range(9).map(plus_one).concatenate(Range(9).map(plus_one))) == (18, "element")
    assert left(Range(9)) == (None, "element")


def test_a_dataset_that_goes_leaves_nothing_behind() -> None:
    dataset = gl.watch(Range(9).map(plus_one))
    iterator = iter(dataset)
    watched = dataset.watched
    assert list(watched.iterators) == [iterator]
    number = watched.number
    del dataset, watched
    assert int(next(iterator)) == 1  # which holds it
    del iterator
    gc.collect()
    assert number not in [one.number for one in all_watched()]


def test_bad_input_is_refused_in_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(gl.UsageError, match=r"watch takes a tf\.data\.Dataset, found list: pass the dataset itself"):
        gl.watch([1, 2])
    with pytest.raises(gl.UsageError, match=r"outside of tf\.function"):
        tf.function(lambda: gl.watch(Range(3)), autograph=False)()
    long = Range(3)
    for _ in range(301):
        long = long.prefetch(1)
    with pytest.raises(gl.UsageError, match="up to 300 nodes, this one has more"):
        gl.watch(long)
    monkeypatch.setattr(op, "FILE", Path("/nowhere"))
    op.operations.cache_clear()
    with pytest.raises(gl.BackendUnavailable, match="aren't built"):
        gl.watch(Range(3))
    monkeypatch.undo()
    op.operations.cache_clear()


def test_a_kernel_that_was_built_from_other_sources_is_refused_like_one_that_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forget() -> None:
        library.loaded.cache_clear()
        counters._library.cache_clear()

    monkeypatch.setattr(library, "ABI", library.ABI + 1)
    forget()
    try:
        with pytest.raises(gl.BackendUnavailable, match="was built from other sources; make setup"):
            gl.watch(Range(3).map(lambda x: x + 1))
    finally:
        monkeypatch.undo()
        forget()


def test_a_note_tells_what_a_clock_cannot_see() -> None:
    def note(function: Callable[[Any], Any]) -> str:
        (step,) = gl.watch(tf.data.Dataset.from_tensors("x").map(function)).watched.steps
        return str(step.note)

    @tf.function
    def decoded(x: Any) -> Any:
        return tf.io.decode_jpeg(tf.io.read_file(x))

    weights = tf.ones((8, 8))
    assert note(lambda x: tf.io.decode_jpeg(tf.io.read_file(x))) == ""
    assert note(decoded) == ""
    assert "several threads" in note(lambda x: (tf.io.decode_jpeg(x), tf.io.decode_png(x)))
    assert "several threads" in note(lambda x: (decoded(x), decoded(x + "y")))
    assert note(lambda x: weights @ tf.fill((8, 8), tf.strings.to_number(x))).startswith("MatMul may run on other")


@pytest.mark.slow
def test_what_tf_data_service_runs_has_no_clock_and_says_so() -> None:
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.partition("://")[2]
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=address))
    given = Range(9).map(plus_one).apply(service.distribute(service.ShardingPolicy.OFF, dispatcher.target))
    dataset = gl.watch(given.map(plus_one, name="here"))
    assert sorted(elements(dataset)) == sorted(elements(Range(2, 11)))
    assert "tf.data service runs it in other processes" in dataset.watched.unwatched.values()
    assert dataset.watched.read().steps["here"].calls == 9
    del worker


def test_a_watched_dataset_is_taken_apart_as_the_given_one(tmp_path: Path) -> None:
    given = Range(9).map(plus_one).shuffle(4, seed=1).batch(2)
    watched = gl.watch(given)
    shown = [[node.name for node in walk(dataset).nodes() if not node.hidden] for dataset in (given, watched)]
    assert shown[0] == shown[1]
    copy = Builder(str(tmp_path)).build(walk(watched))  # as a profile does, which has clocks of its own
    assert elements(copy) == elements(given)
    assert watched.watched.read().steps["plus_one"].calls == 0
