"""The race: who runs, who leaves, when it ends; and that it says what is true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.compare_truth import KINDS, MOST_PARTED, MOST_WRONG, Truth, evaluation, outcomes, rows, typical
from greenload.energy.figures import Figure
from greenload.strategies.limits import parse_limit
from greenload.strategies.race import BUDGET, FAILED, PARTED, SEEDS, Race, run_race
from greenload.strategies.records import Card, Run
from greenload.strategies.statistics import Looks
from greenload.strategies.verdict import Findings, Rules


def race(names: tuple[str, ...], budget_s: float | None, *limits: str, seeds: int = 3) -> Race:
    looks = Looks(seeds, 0.05, repeated=budget_s is not None)
    return Race(Rules(names, looks, tuple(parse_limit(rule, names) for rule in limits)), seeds, budget_s=budget_s)


def noisy(
    means: dict[str, float], costs: dict[str, float] | None = None, spread: float = 0.01
) -> Callable[[str, int], Run]:
    """Scores of given means: the same for a strategy and seed, whenever it runs."""

    def run(strategy: str, seed: int) -> Run:
        noise = np.random.default_rng((sorted(means).index(strategy), seed)).normal(0, spread)
        cost = (costs or {}).get(strategy, 10.0) * (1 + 0.001 * noise)
        return Run(strategy=strategy, seed=seed, score=means[strategy] + noise, seconds=1.0, cpu_s=cost)

    return run


def test_without_a_budget_everybody_runs_its_seeds_and_no_more() -> None:
    names = ("a", "b", "c")
    end = run_race(race(names, None, seeds=4), noisy(dict.fromkeys(names, 0.9)))
    assert {(one.strategy, one.seed) for one in end.runs} == {(name, seed) for name in names for seed in range(4)}
    assert end.ended == SEEDS and len(end.runs) == 12 and not end.left
    firsts = [end.runs[3 * number].strategy for number in range(4)]
    assert firsts == ["a", "b", "c", "a"]  # each begins in its turn


def test_the_budget_goes_to_those_still_tied() -> None:
    means = {"worst": 0.5, "good": 0.9, "better": 0.905}
    end = run_race(race(tuple(means), 100.0), noisy(means))
    counts = {name: sum(one.strategy == name for one in end.runs) for name in means}
    assert counts["worst"] == 3 and counts["good"] == counts["better"] >= 12
    assert "scores more and costs no more" in end.left["worst"] and set(end.left) == {"worst"}


def test_whoever_is_worse_but_cheaper_stays_without_running_on() -> None:
    """It is in the Pareto set; nothing is left to be found out about it."""
    means, costs = {"cheap": 0.5, "good": 0.9, "better": 0.905}, {"cheap": 1.0}
    end = run_race(race(tuple(means), 100.0), noisy(means, costs))
    assert not end.left and sum(one.strategy == "cheap" for one in end.runs) == 3
    found = Findings(race(tuple(means), 100.0).rules, end.runs, {})
    assert found.pareto[0] == "cheap" and found.steps_up[0].lower == "cheap"


def test_it_ends_when_all_are_parted() -> None:
    means = {"a": 0.5, "b": 0.7, "c": 0.9}
    end = run_race(race(tuple(means), 1000.0), noisy(means))
    assert end.ended == PARTED and len(end.runs) == 9
    rules = race(tuple(means), 1000.0).rules
    assert Findings(rules, end.runs, {}).choice[0] == "c" and not Findings(rules, end.runs, {}).ties


@given(st.floats(0.5, 60), st.integers(2, 5), st.integers(0, 99))
@settings(max_examples=40)
def test_no_run_is_begun_that_would_not_end_in_the_budget(budget_s: float, count: int, salt: int) -> None:
    names = tuple(f"s{number}" for number in range(count))
    end = run_race(race(names, budget_s), noisy({name: 0.9 + 0.001 * salt for name in names}))
    assert sum(one.seconds for one in end.runs) <= max(budget_s, 1.0)  # nothing tells what the very first takes
    assert end.ended == BUDGET or sum(one.seconds for one in end.runs) <= budget_s


@given(st.sampled_from(KINDS), st.integers(0, 50), st.floats(0, 1), st.booleans())
@settings(max_examples=40)
def test_a_stopped_race_goes_on_and_repeats_nothing(kind: str, salt: int, share: float, raced: bool) -> None:
    truth = typical(np.random.default_rng(salt), kind)
    asked = race(truth.names, 60.0 if raced else None)
    whole = run_race(asked, fixed(truth, salt))
    kept = whole.runs[: int(share * len(whole.runs))]
    repeated: list[tuple[str, int]] = []

    def run(strategy: str, seed: int) -> Run:
        repeated.append((strategy, seed))
        return fixed(truth, salt)(strategy, seed)

    again = run_race(asked, run, kept)
    assert again == whole
    assert len(repeated) == len(whole.runs) - len(kept)


def fixed(truth: Truth, salt: int) -> Callable[[str, int], Run]:
    """As `evaluation`, but the same for a strategy and seed, whenever it runs."""
    return lambda strategy, seed: evaluation(truth, np.random.default_rng((salt, truth.names.index(strategy), seed)))(
        strategy, seed
    )


def test_whoever_fails_leaves_and_the_others_go_on() -> None:
    names = ("sound", "broken", "fine")
    well = noisy({"sound": 0.9, "fine": 0.8})

    def run(strategy: str, seed: int) -> Run:
        if strategy == "broken" or (strategy == "fine" and seed == 1):
            return Run(strategy=strategy, seed=seed, score=None, failed="ValueError: no", seconds=1.0, cpu_s=1.0)
        return well(strategy, seed)

    end = run_race(race(names, None), run)
    assert end.left == {"broken": "its runs failed: ValueError: no"}
    assert [sum(one.strategy == name for one in end.runs) for name in names] == [3, 2, 3]
    found = Findings(race(names, None).rules, end.runs, {})
    assert found.choice[0] == "sound" and found.counts == [3, 0, 2]
    assert "broken" not in found.pareto

    nothing = run_race(
        race(("a", "b"), 100.0),
        lambda strategy, seed: Run(strategy=strategy, seed=seed, score=None, failed="x", seconds=1.0, cpu_s=1.0),
    )
    assert nothing.ended == FAILED and len(nothing.runs) == 4
    assert Findings(race(("a", "b"), 100.0).rules, nothing.runs, {}).choice == (
        None,
        "no run gave a score, so nothing can be recommended",
    )


def card(name: str, images_per_s: float) -> Card:
    figure = Figure(images_per_s, images_per_s - 1, images_per_s + 1, "measured")
    return Card(strategy=name, pipeline={}, images_per_s=figure, cpu_s_per_sample=Figure.missing())


def test_a_loader_that_breaks_a_limit_is_never_trained_with() -> None:
    means = {"fast": 0.9, "slow": 0.95, "other": 0.89}
    cards = {"fast": card("fast", 900), "slow": card("slow", 100), "other": card("other", 800)}
    asked = replace(race(tuple(means), 60.0, "images_per_s>=500"), cards=cards)
    end = run_race(asked, noisy(means))
    assert end.left["slow"] == "its loader breaks images_per_s>=500"
    assert not any(one.strategy == "slow" for one in end.runs)
    # A strategy that others are held against is trained with all the same.
    asked = replace(race(tuple(means), 60.0, "images_per_s>=500", "energy<=2*slow"), cards=cards)
    end = run_race(asked, noisy(means))
    assert any(one.strategy == "slow" for one in end.runs)
    assert Findings(asked.rules, end.runs, cards).choice[0] in ("fast", "other")


def test_nobody_leaves_for_one_that_may_itself_break_a_limit() -> None:
    """The better one costs as much as the limit allows: whether it keeps to it stays open, so the other must stay."""
    means, costs = {"base": 0.5, "good": 0.7, "best": 0.9}, {"base": 10.0, "good": 11.0, "best": 11.0}
    end = run_race(race(tuple(means), 60.0, "energy<=1.1*base"), noisy(means, costs))
    assert "good" not in end.left


def test_whoever_surely_breaks_a_limit_leaves() -> None:
    means, costs = {"base": 0.5, "good": 0.6, "best": 0.9}, {"base": 10.0, "good": 11.0, "best": 20.0}
    asked = race(tuple(means), 60.0, "energy<=1.2*base")
    end = run_race(asked, noisy(means, costs))
    assert end.left == {"best": "it breaks energy<=1.2*base"}
    found = Findings(asked.rules, end.runs, {})
    assert found.choice[0] == "good" and "keep to the limits" in found.choice[1]


def test_the_cheapest_of_those_tied_with_the_best() -> None:
    means, costs = {"dear": 0.901, "cheap": 0.9, "poor": 0.5}, {"dear": 20.0, "cheap": 10.0, "poor": 1.0}
    asked = race(tuple(means), None)
    found = Findings(asked.rules, run_race(asked, noisy(means, costs)).runs, {})
    assert found.choice[0] == "cheap" and "tied: dear" in found.choice[1]
    assert found.pareto == ("poor", "cheap")  # the dear one is needless
    [step] = found.steps_up
    assert (step.lower, step.upper) == ("poor", "cheap")
    assert step.points.value == pytest.approx(40, abs=2) and step.cost.value == pytest.approx(9, abs=0.1)
    assert step.cost_per_point.value == pytest.approx(9 / 40, rel=0.1)
    [tie] = found.ties
    assert {tie.a, tie.b} == {"dear", "cheap"} and tie.more_seeds != 0
    assert found.needed(0, 2) == 1  # as many as they have would part these, but a tie is told to need at least one more


def test_who_costs_least_is_said_only_where_the_costs_part_it() -> None:
    """Two as cheap as each other within the intervals, one surely dearer, all tied in score."""
    scores = {"a": (0.90, 0.92, 0.91), "b": (0.91, 0.93, 0.90), "dear": (0.92, 0.90, 0.91)}
    costs = {"a": (9.9, 10.2, 10.0), "b": (10.1, 10.0, 10.2), "dear": (20.0, 20.2, 20.1)}
    runs = [
        Run(strategy=name, seed=seed, score=scores[name][seed], seconds=1.0, cpu_s=costs[name][seed])
        for name in scores
        for seed in range(3)
    ]
    name, why = Findings(race(tuple(scores), None).rules, runs, {}).choice
    assert name == "b" and "costs least" not in why
    assert "b has the best mean" in why and "as cheap within the intervals: a;" in why and why.endswith("dearer: dear")


def test_of_equal_means_the_cheaper() -> None:
    """Costs that can't be told apart, scores that sum up to the same but for the rounding of floats."""
    scores = {"dear": (0.1, 0.2, 0.3), "cheap": (0.3, 0.2, 0.1)}
    costs = {"dear": (10.0, 12.0, 14.0), "cheap": (12.0, 10.0, 13.0)}
    runs = [
        Run(strategy=name, seed=seed, score=scores[name][seed], seconds=1.0, cpu_s=costs[name][seed])
        for name in scores
        for seed in range(3)
    ]
    assert Findings(race(tuple(scores), None).rules, runs, {}).choice[0] == "cheap"


@pytest.mark.parametrize("count", [1, 2])
def test_nobody_is_recommended_of_fewer_than_three_runs(count: int) -> None:
    means = {"a": 0.5, "b": 0.9}
    asked = race(tuple(means), None)
    runs = [noisy(means, spread=0.001)(name, seed) for seed in range(count) for name in means]
    name, why = Findings(asked.rules, runs, {}).choice
    assert name is None and f"b leads, but with {count} run" in why and "best" not in why
    runs += [noisy(means, spread=0.001)("b", seed) for seed in range(count, 3)]
    assert Findings(asked.rules, runs, {}).choice[0] == "b"


def test_verdicts_on_limits_share_the_error() -> None:
    """An interval that is clear of its limit alone, but not among as many as there are."""
    costs = {"a": (10.0, 10.2, 9.8), "b": (10.0, 10.1, 9.9)}
    runs = [
        Run(strategy=name, seed=seed, score=0.5, seconds=1.0, cpu_s=costs[name][seed])
        for name in costs
        for seed in range(3)
    ]
    error = 0.2 / np.sqrt(3)
    at = 10 + 6 * error  # Student's t of 2 degrees: 4.30 for 0.05, 6.21 for a half of it, 8.86 for a fourth
    for limits, student, outcome in (
        ((f"cpu_s<={at}",), 6.2053, "undecided"),
        ((f"cpu_s<={at + error}",), 6.2053, "met"),
        ((f"cpu_s<={at + error}", "images_per_s>=1"), 6.2053, "met"),  # loaders take none of the error
        ((f"cpu_s<={at + error}", "score>=0.1"), 8.8602, "undecided"),
    ):
        check = Findings(race(tuple(costs), None, *limits).rules, runs, {}).of_limits("a")[0].check
        assert check.outcome == outcome and check.high == pytest.approx(10 + student * error, rel=1e-5)


def test_an_unreachable_limit_names_the_nearest() -> None:
    means, costs = {"a": 0.9, "b": 0.8}, {"a": 20.0, "b": 10.0}
    for rule, said in (
        ("score>=0.99", "no strategy keeps to score>=0.99: nearest is a with 0."),
        ("energy<=0.5*b", "no strategy keeps to energy<=0.5*b: nearest is b with"),
        ("images_per_s>=5", "no strategy can be held against images_per_s>=5: the loader wasn't profiled"),
    ):
        cards = {
            name: Card(strategy=name, pipeline={}, images_per_s=Figure.missing(), cpu_s_per_sample=Figure.missing())
            for name in means
        }
        asked = replace(race(tuple(means), None, rule), cards=cards)
        found = Findings(asked.rules, run_race(asked, noisy(means, costs, 0.001)).runs, cards)
        recommended, why = found.choice
        assert recommended is None and why.startswith(said)
    asked = race(tuple(means), None, "score>=0.85", "energy<=15")
    both = race(tuple(means), None, "score>=0.85", "energy<=1.5*b")
    assert Findings(asked.rules, run_race(asked, noisy(means, costs, 0.001)).runs, {}).choice[0] is None
    why = Findings(both.rules, run_race(both, noisy(means, costs, 0.001)).runs, {}).choice[1]
    assert why.startswith("no strategy keeps to all limits together: nearest is a, which breaks energy<=1.5*b")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_is_true_as_often_as_promised(kind: str) -> None:
    """A smaller sample of bench/compare_truth.py, with the room that chance needs (three standard errors)."""
    comparisons = 120
    found = [one for _, one in outcomes(kind, comparisons)]
    room = 3 * np.sqrt(0.05 * 0.95 / comparisons)
    assert np.mean([not one.right for one in found]) <= MOST_WRONG + room
    assert np.mean([one.misranked for one in found]) <= MOST_WRONG + room
    tied = [one.equal_tied for one in found if one.equal_tied is not None]
    assert not tied or np.mean(tied) >= 1 - MOST_PARTED - room
    if kind == "alike spreads":
        parted = [one.parted for one in found[1::2] if one.parted is not None]
        assert np.mean(parted) > 0.25  # it does tell apart what 20 seeds can


def test_the_bench_shows_what_it_counts() -> None:
    shown = rows("all equal", list(outcomes("all equal", 4)))
    assert any("truly equal" in row.what and row.reach == 100 * MOST_PARTED for row in shown)
    assert all(row.met for row in shown if row.reach is not None)
