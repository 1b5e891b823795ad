"""``gl.compare``: its arguments, the file that it keeps and goes on from, and one comparison with TensorFlow."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_fixtures import build

import greenload as gl
from greenload.errors import GreenloadError, PipelineError, ReportError, UsageError
from greenload.strategies import compare as module
from greenload.strategies.arguments import checked_seconds
from greenload.strategies.conclusion import Asked, card_of
from greenload.strategies.data import Comparison
from greenload.strategies.records import Run
from greenload.strategies.results import identity
from greenload.strategies.statistics import Looks
from greenload.strategies.verdict import Rules

SOURCE = gl.Arrays(np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8), np.arange(64) % 4)
PLAIN = gl.Pipeline(SOURCE, gl.Shuffle(), gl.Batch(16))
FLIPPED = gl.Pipeline(SOURCE, gl.Shuffle(), gl.RandomHorizontalFlip(), gl.Batch(16))
TWO = {"plain": PLAIN, "flipped": FLIPPED}


def never(dataset: Any, seed: int) -> float:
    raise AssertionError("nothing may run before the arguments are known to be right")


class Short:
    def run(self, pipeline: Any, seed: int) -> float:
        raise AssertionError("nothing may run before the arguments are known to be right")


BAD: dict[str, tuple[Callable[[], Any], type[GreenloadError], str]] = {
    "one strategy": (lambda: gl.compare({"plain": PLAIN}, never), UsageError, "two strategies or more, found 1"),
    "a list": (lambda: gl.compare([PLAIN, FLIPPED], never), UsageError, "pipelines by name"),  # type: ignore[arg-type]
    "a dataset": (lambda: gl.compare({"a": PLAIN, "b": 3}, never), UsageError, "b is of type int"),  # type: ignore[dict-item]
    "a name": (lambda: gl.compare({"a": PLAIN, "\x1b[2J": PLAIN}, never), UsageError, "a printable text"),
    "sources": (
        lambda: gl.compare({"a": PLAIN, "b": gl.Pipeline(gl.Arrays(np.zeros((4, 8, 8, 3), np.uint8)), gl.Batch(2))}),
        UsageError,
        "the source of b isn't that of a",
    ),
    "two seeds": (lambda: gl.compare(TWO, never, seeds=2), UsageError, "from 3 to 1,000, found 2"),
    "a fraction": (lambda: gl.compare(TWO, never, seeds=3.0), UsageError, "found 3.0: give one"),  # type: ignore[arg-type]
    "a seed": (lambda: gl.compare(TWO, never, first_seed=-1), UsageError, "first_seed"),
    "a budget": (lambda: gl.compare(TWO, never, budget="soon"), UsageError, "15min or 900 seconds, found 'soon'"),
    "no budget": (lambda: gl.compare(TWO, never, budget=0), UsageError, "found 0"),
    "confidence": (lambda: gl.compare(TWO, never, confidence=95), UsageError, "confidence"),
    "demand": (lambda: gl.compare(TWO, never, demand=-1.0), UsageError, "demand"),
    "precision": (lambda: gl.compare(TWO, never, precision=7.0), UsageError, "precision"),
    "a number to evaluate": (lambda: gl.compare(TWO, 3), UsageError, "evaluate is a function of a dataset and a seed"),  # type: ignore[arg-type]
    "one argument": (lambda: gl.compare(TWO, lambda data: 0.5), UsageError, "it takes (data): too many positional"),  # type: ignore[arg-type, misc]
    "a class to evaluate": (lambda: gl.compare(TWO, gl.Proxy), UsageError, "found the class Proxy"),  # type: ignore[arg-type]
    "three arguments": (
        lambda: gl.compare(TWO, lambda data, seed, rate: 0.5),  # type: ignore[arg-type, misc]
        UsageError,
        "missing a required argument: 'rate'",
    ),
    "a run of two arguments": (
        lambda: gl.compare(TWO, Short()),
        UsageError,
        "evaluate.run(pipeline, seed, backend) is",
    ),  # type: ignore[arg-type]
    "a negative factor": (lambda: gl.compare(TWO, never, limits="energy<=-2*plain"), UsageError, "never below 0"),
    "a strategy in a limit": (
        lambda: gl.compare(TWO, never, limits="energy<=2*plane"),
        UsageError,
        "multiple of plain",
    ),
    "no limits": (lambda: gl.compare(TWO, never, limits=3), UsageError, "limits are texts"),  # type: ignore[arg-type]
    "a score": (lambda: gl.compare(TWO, never, at_least=float("nan")), UsageError, "at_least"),
    "a limit on runs": (lambda: gl.compare(TWO, limits="energy<=plain"), UsageError, "but nothing is evaluated"),
    "labels": (
        lambda: gl.compare({"plain": PLAIN, "mixed": gl.Pipeline(SOURCE, gl.Batch(16), gl.OneHot(3))}, never),
        UsageError,
        "strategy mixed: ",
    ),
    "a backend": (
        lambda: gl.compare(
            {"plain": PLAIN, "own": gl.Pipeline(SOURCE, gl.Apply(abs), gl.Batch(4))}, never, backend="pillow"
        ),
        PipelineError,
        "strategy own: ",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_said_in_one_line_before_anything_runs(what: str) -> None:
    call, kind, said = BAD[what]
    with pytest.raises(kind, match=re.escape(said)) as raised:
        call()
    assert "\n" not in str(raised.value) and str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("15min", 900),
        ("1h 30min", 5400),
        ("90 s", 90),
        ("15m", 900),
        ("1h 5m", 3900),
        ("2.5h", 9000),
        (7, 7),
        ("45", 45),
    ],
)
def test_times(given: str | float, seconds: float) -> None:
    assert checked_seconds(given) == seconds
    for wrong in ("15minutes", "min", "", "-3s", "1h x", True, float("inf")):
        with pytest.raises(UsageError):
            checked_seconds(wrong)


SCORES = {"plain": 0.8, "flipped": 0.9}


class Bench:
    """What profiles and runs, without a framework; it counts what it did, and may be stopped."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.warm = False
        self.profiles: list[str] = []
        self.ran: list[tuple[str, int]] = []
        self.stop_after = stop_after

    def profiled(self, name: str, pipeline: gl.Pipeline, told: Callable[[float, str], None]) -> gl.Report:
        told(0.5, "half")
        self.profiles.append(name)
        return build(counter=False)

    def run(self, name: str, pipeline: gl.Pipeline, seed: int) -> Run:
        if self.stop_after is not None and len(self.ran) >= self.stop_after:
            raise KeyboardInterrupt
        cold, self.warm = not self.warm, True
        if not cold:  # the first run of a session isn't counted
            self.ran.append((name, seed))
        noise = np.random.default_rng((len(name), seed)).normal(0, 0.01)
        return Run(strategy=name, seed=seed, score=SCORES[name] + noise, seconds=2.0, cpu_s=3.0 + noise + 40 * cold)


def asked(
    out: Path | None, strategies: Mapping[str, gl.Pipeline] = TWO, budget_s: float | None = None, **more: Any
) -> Asked:
    names = tuple(strategies)
    fields: dict[str, Any] = {
        "strategies": strategies,
        "rules": Rules(names, Looks(3, 0.05, repeated=budget_s is not None)),
        "seeds": 3,
        "first_seed": 0,
        "budget_s": budget_s,
        "demand": None,
        "evaluates": True,
        "same": identity(strategies, never, "tf", 0),
        "out": None if out is None else str(out),
        "progress": lambda share, text: None,
    }
    fields |= more
    return Asked(settings={"same": fields["same"]}, **fields)


def facts(choice: Comparison) -> Any:
    """What a comparison says, without times."""
    data = choice.to_dict()
    del data["created"]
    for card in data["cards"]:
        del card["seconds"]
    for run in data["runs"]:
        run.pop("warm_up_s", None)  # each session has its own
    return data


@pytest.mark.parametrize("stop_after", [0, 1, 4, 5])
def test_a_stopped_comparison_goes_on_and_repeats_nothing(tmp_path: Path, stop_after: int) -> None:
    whole = module.carry_out(asked(tmp_path / "whole.json"), *both(Bench()))
    first, second, out = Bench(stop_after), Bench(), tmp_path / "out.json"
    with pytest.raises(KeyboardInterrupt):
        module.carry_out(asked(out), *both(first))
    kept = Comparison.load(out)
    assert not kept.finished and len(kept.runs) == stop_after and "not finished" in str(kept)
    again = module.carry_out(asked(out), *both(second))
    assert first.profiles == ["plain", "flipped"] and second.profiles == []
    assert first.ran + second.ran == [(run.strategy, run.seed) for run in whole.runs]
    assert facts(again) == facts(whole) and again.finished
    assert Comparison.load(out) == again
    third = Bench()
    assert facts(module.carry_out(asked(out), *both(third))) == facts(whole) and not third.ran


def both(bench: Bench) -> tuple[Any, Any]:
    return bench.profiled, bench.run


def test_more_budget_goes_on_where_less_ended(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    short = module.carry_out(asked(out, budget_s=9.0), *both(Bench()))
    assert len(short.runs) == 4 and short.finished
    note = next(note for note in short.notes if "too small" in note)
    assert note.startswith("the budget of 9 s was too small for 3 runs of plain, flipped: give about 12 s")
    assert short.recommended is None and short.reason.startswith("flipped leads, but with 2 runs that gave a score")
    assert "give about 12 s" in short.reason and "best" not in short.reason
    bench = Bench()
    longer = module.carry_out(asked(out, budget_s=100.0), *both(bench))
    assert longer.runs[:4] == short.runs and len(bench.ran) == len(longer.runs) - 4 >= 2
    assert longer.recommended == "flipped" and not any("too small" in note for note in longer.notes)


def test_the_first_run_of_a_session_pays_for_nobody(tmp_path: Path) -> None:
    out, stopped, bench = tmp_path / "out.json", Bench(2), Bench()
    with pytest.raises(KeyboardInterrupt):
        module.carry_out(asked(out), *both(stopped))
    choice = module.carry_out(asked(out), *both(bench))
    assert len(choice.runs) == 6 and all(run.cpu_s < 4 for run in choice.runs)
    assert [run.warm_up_s for run in choice.runs] == [2.0, 0, 2.0, 0, 0, 0]  # one for each session
    assert sum(run.wall_s for run in choice.runs) == 16 and not any("imports" in note for note in choice.notes)


@pytest.mark.parametrize(("budget_s", "warm"), [(14.5, True), (13.9, False)])
def test_a_budget_without_room_for_it_counts_the_first_run(budget_s: float, warm: bool) -> None:
    choice = module.carry_out(asked(None, budget_s=budget_s), *both(Bench()))
    assert len(choice.runs) == 6  # three of each
    assert (choice.runs[0].warm_up_s == 2.0) == warm == (choice.runs[0].cpu_s < 4)
    assert sum(run.wall_s for run in choice.runs) <= budget_s
    notes = [note for note in choice.notes if "imports" in note]
    assert len(notes) == (not warm) and all(note.startswith("plain's cost with seed 0") for note in notes)


def test_a_score_that_ignores_the_seed_is_said() -> None:
    class Same(Bench):
        def run(self, name: str, pipeline: gl.Pipeline, seed: int) -> Run:
            found = super().run(name, pipeline, seed)
            return replace(found, score=0.8) if name == "plain" else found

    for bench, said in ((Same(), True), (Bench(), False)):
        notes = [note for note in module.carry_out(asked(None), *both(bench)).notes if "every seed" in note]
        assert len(notes) == said and all(note.startswith("plain scored the same with every seed") for note in notes)


@pytest.mark.parametrize(
    ("budget_s", "evaluates", "count"),
    [(None, True, 3), (60.0, True, 3), (59.0, True, 2), (9.0, True, 1), (59.0, False, 3)],
)
def test_profiles_take_a_third_of_the_budget(
    monkeypatch: pytest.MonkeyPatch, budget_s: float | None, evaluates: bool, count: int
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setitem(SCORES, "third", 0.7)
    three, bench = TWO | {"third": FLIPPED}, Bench()

    def profiled(*given: Any) -> gl.Report:
        now[0] += 20 / 3
        return bench.profiled(*given)

    choice = module.carry_out(asked(None, three, budget_s, evaluates=evaluates), profiled, bench.run)
    assert bench.profiles == list(three)[:count]
    notes = [note for note in choice.notes if "not profiled" in note]
    assert len(notes) == (count < 3) and all(name in notes[0] for name in list(three)[count:])


def test_changes_are_not_tried_where_cards_do_not_show_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[Any] = []

    def profiled(pipeline: Any, options: Any) -> gl.Report:
        asked_for.append(options)
        return build(counter=False)

    monkeypatch.setattr(module, "profile_pipeline", profiled)
    gl.compare(TWO, backend="tf", precision=0.1)
    assert [(one.advise, one.precision, one.name) for one in asked_for] == [(False, 0.1, name) for name in TWO]


def test_failed_runs_are_run_again_when_a_comparison_goes_on(tmp_path: Path) -> None:
    class Fails(Bench):
        def run(self, name: str, pipeline: gl.Pipeline, seed: int) -> Run:
            found = super().run(name, pipeline, seed)
            return replace(found, score=None, failed="ValueError: no") if name == "flipped" else found

    out, mended = tmp_path / "out.json", Bench()
    failed = module.carry_out(asked(out), *both(Fails()))
    assert failed.card("flipped").left and failed.card("flipped").failed == 2 and failed.recommended == "plain"
    again = module.carry_out(asked(out), *both(mended))
    assert {seed for name, seed in mended.ran if name == "flipped"} == {0, 1, 2} and len(again.runs) == 6
    assert again.recommended == "flipped" and not again.card("flipped").left and again.card("flipped").failed == 0


def test_a_budget_too_small_for_anything() -> None:
    choice = module.carry_out(asked(None, budget_s=1e-9), *both(Bench()))
    assert choice.recommended is None and not choice.runs
    assert any("too small for 3 runs of plain, flipped: give more than" in note for note in choice.notes)
    assert "no recommendation: no run gave a score" in str(choice)


def test_a_file_of_another_comparison_is_refused_and_stays(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    module.carry_out(asked(out), *both(Bench()))
    kept = out.read_bytes()
    third = {"plain": PLAIN, "other": FLIPPED}
    changed = {"plain": PLAIN, "flipped": gl.Pipeline(SOURCE, gl.RandomVerticalFlip(), gl.Batch(16))}
    for other, said in (
        (asked(out, third), "of plain, flipped, here plain, other"),
        (asked(out, changed), "flipped was another pipeline, or its source has changed"),
        (asked(out, same=identity(TWO, never, "native", 0)), "backend was 'tf', here 'native'"),
        (asked(out, same=identity(TWO, never, "tf", 5)), "first_seed was 0, here 5"),
        (asked(out, same=identity(TWO, test_times, "tf", 0)), "evaluate was another, or was edited"),
    ):
        with pytest.raises(ReportError, match=re.escape(said)) as raised:
            module.carry_out(other, *both(Bench()))
        assert str(out) in str(raised.value) and "name another file" in str(raised.value)
    assert out.read_bytes() == kept


def test_seeds_of_the_pipelines_themselves_make_no_other_comparison() -> None:
    seeded = {name: gl.Pipeline(p.source, *p.stages, seed=9) for name, p in TWO.items()}
    assert identity(seeded, never, "tf", 0) == identity(TWO, never, "tf", 0)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"schema": "greenload.report/1"}', "[1, 2", '{"schema": "greenload.compare/2"}']
)
def test_a_damaged_file_is_refused_and_stays(tmp_path: Path, text: str) -> None:
    out = tmp_path / "out.json"
    out.write_text(text)
    with pytest.raises(ReportError, match=re.escape(str(out))) as raised:
        module.carry_out(asked(out), *both(Bench()))
    assert "name another file" in str(raised.value) and out.read_text() == text


def test_a_file_that_cant_be_written_is_said_before_anything_runs(tmp_path: Path) -> None:
    bench = Bench()
    with pytest.raises(ReportError, match="can't be written"):
        module.carry_out(asked(tmp_path / "none" / "out.json"), *both(bench))
    assert not bench.profiles and not bench.ran


def test_progress_grows_to_its_end(tmp_path: Path) -> None:
    for budget_s in (None, 30.0):
        told: list[tuple[float, str]] = []
        module.carry_out(asked(None, budget_s=budget_s, progress=lambda *one: told.append(one)), *both(Bench()))  # noqa: B023
        shares = [share for share, _ in told]
        assert shares == sorted(shares) and shares[-1] == 1.0 and max(shares[:-1]) < 1.0
        assert any(text == "plain: training with seed 1" for _, text in told)


def test_progress_of_a_budget_grows_while_a_profile_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    now = iter(range(1000))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(now)))

    class Telling(Bench):
        def profiled(self, name: str, pipeline: gl.Pipeline, tell: Callable[[float, str], None]) -> gl.Report:
            for _ in range(3):
                tell(0.5, "the same")
            return super().profiled(name, pipeline, tell)

    progress = lambda share, text: told.append(share)  # noqa: E731
    module.carry_out(asked(None, budget_s=100.0, progress=progress), *both(Telling()))
    assert told == sorted(told) and told[:3] == [0.01, 0.02, 0.03]


# With TensorFlow


def accuracy(dataset: Any, seed: int) -> float:
    """A tiny model, trained for an epoch; the score is that on the training data."""
    import keras

    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(4)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(dataset, epochs=1, verbose=0)
    return float(model.evaluate(dataset, verbose=0, return_dict=True)["accuracy"])


@pytest.mark.slow
def test_a_comparison_with_tensorflow(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    out = tmp_path / "compare.json"
    choice = gl.compare(TWO, evaluate=accuracy, limits="energy<=1000*plain", demand=1.0, backend="tf", out=out)
    assert choice.finished and choice == Comparison.load(out) and not any(run.failed for run in choice.runs)
    assert [(run.strategy, run.seed) for run in choice.runs][:3] == [("plain", 0), ("flipped", 0), ("flipped", 1)]
    assert len(choice.runs) == 6 and choice.recommended in TWO
    for card in choice.cards:
        assert 0 < card.score.value < 1 and card.training_cpu_s.value > 0 and card.starves is False
        assert card.cpu_s_per_sample.value > 0 and card.steps and card.images_per_s.value > 1
        assert card.training_cpu_s.value == pytest.approx(
            np.mean([run.cpu_s for run in choice.runs if run.strategy == card.strategy])
        )
    assert all(limit.check.outcome == "met" for limit in choice.limits)
    again = gl.compare(TWO, evaluate=accuracy, limits="energy<=1000*plain", demand=1.0, backend="tf", out=out)
    assert again.runs == choice.runs and again.cards == choice.cards  # nothing was run or profiled again
    assert json.loads(out.read_text())["recommended"] == choice.recommended


@pytest.mark.parametrize("counter", [True, False])
def test_a_card_has_the_figures_of_its_profile(counter: bool) -> None:
    report = build(counter=counter)
    card = card_of("plain", PLAIN, report, 3.0)
    assert card.cpu_s_per_sample == report.total.cpu_s_per_sample and card.images_per_s == report.full.samples_per_s
    assert card.energy_j_per_sample == report.total.energy_j_per_sample
    assert [(step.name, step.cpu_s_per_sample, step.energy_j_per_sample) for step in card.steps] == [
        (step.name, step.cpu_s_per_sample, step.energy_j_per_sample) for step in report.steps
    ]


@pytest.mark.long
@pytest.mark.alone
def test_cards_agree_with_a_profile_of_the_same_pipeline() -> None:
    """Measured apart: CPU seconds and joules a sample, by domain, are within both intervals."""
    pytest.importorskip("tensorflow")
    choice = gl.compare(TWO, backend="tf")
    assert choice.recommended is None and "nothing was evaluated" in choice.reason
    for name, pipeline in TWO.items():
        total, card = gl.profile(pipeline, "tf").total, choice.card(name)
        pairs = [(card.cpu_s_per_sample, total.cpu_s_per_sample)]
        pairs += [(card.energy_j_per_sample[domain], figure) for domain, figure in total.energy_j_per_sample.items()]
        for ours, theirs in pairs:
            if ours.value is not None and theirs.value is not None:
                assert abs(ours.value - theirs.value) <= ours.half_width + theirs.half_width, (name, ours, theirs)
