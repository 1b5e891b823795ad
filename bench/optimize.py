"""Does ``gl.optimize`` find the best plan? Its choice beside every plan that there is, each measured by whole runs.

    python -m bench.optimize [--quick] [--photos FOLDER] [--out FILE.json] [--only photos,cifar,budgets]

For each pipeline and budget of memory a search chooses a plan for a training of a few epochs. Then every candidate is
run through that whole training, in fresh processes, by turns in shuffled order: all of them twice, those near the best
five times. What a plan costs is the median of its runs: CPU seconds of the process, or joules where a counter reads the
processor. The search's own prediction is held against a run of the plan that it chose, and a row of growing budgets
shows whether joules ever rise: there the choice is by joules, modelled where nothing counts them.

Someone else's datasets are improved as `bench.optimize_datasets` does it, and run beside what they were. Run it on a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported, which else reports what it lacks

import greenload as gl
from bench import optimize_datasets
from bench.by_hand import Workload
from bench.contest import IMAGES, Row, Spread, table
from bench.datasets import makers
from bench.optimize_subjects import SUBJECTS, Case, cases, pipeline, rising
from bench.optimize_truth import Coefficients, Run, Subject, exhaustively, joules, median_cost
from bench.photographs import photos, workload
from greenload.energy.domains import Domain
from greenload.energy.meters.discover import discover
from greenload.machine import machine
from greenload.optimization.candidates import candidates
from greenload.optimization.records import Candidate
from greenload.optimization.training import Training
from greenload.system import file_output

FORMAT = "greenload.bench.optimize/1"
BUDGETS, THEIRS = "budgets", "theirs"
PARTS = (*SUBJECTS, BUDGETS, THEIRS)
BEST_REACH, INSIDE_REACH, SECONDS_REACH = 1.05, 0.9, 180.0
THEIR_EPOCHS, THEIR_RAM = 20, 8e9
"""Of the trainings that published examples' datasets feed, and bytes that these may keep in memory."""
SAME = 1.03
"""What two medians of one plan may differ by: so much may joules seem to rise with a budget where nothing changed."""


@dataclass(frozen=True)
class Settings:
    """What runs, and how often."""

    only: tuple[str, ...] = PARTS
    images: int = IMAGES
    """Different photographs, at most."""
    copies: int = 8
    """How often each is in the set: with few samples building a pipeline would cost more than running it."""
    batch: int = 64
    threads: int = 2
    rounds: int = 5
    """Whole runs of each plan that is near the best."""
    seconds: float = 180.0
    """That a search takes."""
    most: int = 60
    """Plans of a pipeline that are run, at most: those that are expected to cost least."""
    epochs: int | None = None
    """Of all trainings; each subject's own if not given."""


QUICK = Settings(images=256, copies=4, rounds=3, seconds=60.0, most=8, epochs=3)


@dataclass(frozen=True)
class Searched:
    """A case, and what a search found for it."""

    case: Case
    found: gl.Optimization
    took_s: float
    told: int
    """How often progress was shown."""
    options: tuple[tuple[Candidate, gl.Plan], ...]
    """Every plan that there is, the cheapest expected first."""

    @property
    def chosen(self) -> Subject:
        """The plan that was chosen, to be run."""
        return Subject(self.case.subject, self.case.epochs, self.found.winner, self.found.plan)

    def held_bytes(self, name: str) -> float:
        """What a plan keeps in memory."""
        return self.found.candidate(name).ram_bytes


def searched(work: Workload, case: Case, settings: Settings, objective: str) -> Searched:
    """Search for a plan, timed."""
    told: list[str] = []
    pipe = pipeline(work, case.subject)
    start = time.perf_counter()
    found = gl.optimize(
        pipe,
        epochs=case.epochs,
        ram=case.ram,
        objective=objective,
        threads=settings.threads,
        seconds=settings.seconds,
        progress=lambda share, text: told.append(text),
    )
    took_s = time.perf_counter() - start
    _note(f"{case.name}: {found.winner}, found in {took_s:.0f} s")
    training = Training(
        samples=len(pipe.source), epochs=case.epochs, ram=case.ram, threads=settings.threads, objective="cpu"
    )
    options = tuple((option.candidate, option.plan) for option in candidates(pipe, training))
    return Searched(case, found, took_s, len(told), options)


class Truths:
    """Runs of all plans of a pipeline, each plan once, whatever budgets it was a candidate for."""

    def __init__(self, searches: Sequence[Searched], most: int) -> None:
        self.subjects: list[Subject] = []
        self._names: dict[tuple[int, str], str] = {}
        for number, one in enumerate(searches):
            today = [pair for pair in one.options if pair[0].today]
            own = [(one.found.winner, one.found.plan)]
            own += [(c.name, plan) for c, plan in [*today, *one.options[:most]]]
            for name, plan in own:
                self._names.setdefault((number, name), self._known(one.case, name, plan))

    def name_of(self, number: int, name: str) -> str:
        """What a candidate of a search is called among all plans."""
        return self._names[number, name]

    def of(self, number: int) -> dict[str, str]:
        """The plans of a search: by their names there, what they are called among all."""
        return {name: shared for (of, name), shared in self._names.items() if of == number}

    def _known(self, case: Case, name: str, plan: gl.Plan) -> str:
        for subject in self.subjects:
            if subject.plan == plan:
                return subject.name
        taken = sum(subject.name.split(" #")[0] == name for subject in self.subjects)
        unique = f"{name} #{taken + 1}" if taken else name
        self.subjects.append(Subject(case.subject, case.epochs, unique, plan))
        return unique


def judged(searches: Sequence[Searched], truths: Truths, runs: Sequence[Run], measured_j: bool) -> list[Row]:
    """For each budget of a pipeline: the choice against the best, and today's plan against the choice."""
    rows = []
    for number, one in enumerate(searches):
        ran = {run.name for run in runs}
        plans = {name: shared for name, shared in truths.of(number).items() if shared in ran}

        def cost(run: Run, one: Searched = one, plans: dict[str, str] = plans) -> float:
            if not measured_j:
                return run.cpu_s
            own = next(name for name, shared in plans.items() if shared == run.name)
            return joules(run, one.held_bytes(own), Coefficients.of(one.found))

        unit = "joules" if measured_j else "CPU"
        medians = {name: median_cost(runs, shared, cost) for name, shared in plans.items()}
        best = min(medians, key=lambda name: medians[name])
        winner = one.found.winner
        what = f"{one.case.name}: {unit}, chosen ({winner}) over the best of {len(set(plans.values()))} ({best})"
        rows.append(Row(what, "×", _pairs(runs, plans[winner], plans[best], cost), BEST_REACH))
        today = one.found.today
        if today is not None and today.name in plans:
            spread = _pairs(runs, plans[winner], plans[today.name], cost)
            rows.append(Row(f"{one.case.name}: {unit}, chosen over today's ({today.name})", "×", spread))
        if medians[winner] > BEST_REACH * medians[best]:
            _note(f"{one.case.name}: {fault(one, best)}")
    return rows


def _pairs(runs: Sequence[Run], ours: str, theirs: str, cost: Callable[[Run], float]) -> Spread:
    """The ratio of two plans' medians, with quartiles over rounds that both ran in."""
    by_round = {run.round: cost(run) for run in runs if run.name == theirs}
    ratios = [cost(run) / by_round[run.round] for run in runs if run.name == ours and run.round in by_round]
    spread = Spread.of(ratios)
    ratio = median_cost(runs, ours, cost) / median_cost(runs, theirs, cost)
    return Spread(ratio, min(spread.low, ratio), max(spread.high, ratio))


def fault(one: Searched, best: str) -> str:
    """Which part of a search let the best plan go."""
    names = [candidate.name for candidate, _ in one.options]
    rank = names.index(best) + 1 if best in names else 0
    seen = next((candidate for candidate in one.found.candidates if candidate.name == best), None)
    if seen is None:
        return f"the best, {best}, wasn't among the search's candidates"
    if not seen.rates.builds:
        return f"the best, {best}, was never run: number {rank} of {len(names)} by price; {seen.lost}"
    return f"the best, {best}, left after {seen.rates.builds} builds (number {rank} by price): {seen.lost or 'it tied'}"


def predictions(searches: Sequence[Searched], truths: Truths, runs: Sequence[Run]) -> tuple[list[Row], list[Any]]:
    """What searches predicted of the whole training, against the first whole run of the plan that each chose."""
    offs, raw = [], []
    for number, one in enumerate(searches):
        spent = one.found.best.outlay
        own = [run.cpu_s for run in runs if run.name == truths.name_of(number, one.found.winner)]
        assert spent is not None and spent.cpu_s.value is not None
        low, high = spent.cpu_s.low, spent.cpu_s.high
        assert low is not None and high is not None
        offs.append(spent.cpu_s.value / statistics.median(own))
        raw.append({"case": asdict(one.case), "predicted_cpu_s": spent.cpu_s.to_dict(), "seen_cpu_s": own})
        _note(f"{one.case.name}: predicted {low:.2f} … {high:.2f} CPU s, seen {', '.join(f'{s:.2f}' for s in own)}")
    return [Row(f"{searches[0].case.subject}: CPU predicted over seen", "×", Spread.of(offs))], raw


def of_budgets(work: Workload, settings: Settings, meters: bool) -> tuple[list[Row], list[Searched], list[Run]]:
    """Joules of the plans chosen for growing budgets, beside the best that keeps nothing."""
    found = [searched(work, case, settings, "energy") for case in rising(work, SUBJECTS[0], settings.epochs)]
    truths = Truths([replace(one, options=()) for one in found], 0)
    runs = exhaustively(
        work,
        truths.subjects,
        rounds=settings.rounds,
        stays=[s.name for s in truths.subjects],
        meters=meters,
        note=_note,
    )
    rows = []
    by = Coefficients.of(found[0].found)

    def spent(number: int) -> Callable[[Run], float]:
        held = found[number].held_bytes(found[number].found.winner)
        return lambda run: joules(run, held, by)

    shared = [truths.name_of(number, one.found.winner) for number, one in enumerate(found)]
    costs = [median_cost(runs, name, spent(number)) for number, name in enumerate(shared)]
    for number, one in enumerate(found):
        text = f"{one.case.name}: joules of the training, {one.found.winner}"
        own = [spent(number)(run) for run in runs if run.name == shared[number]]
        rows.append(Row(text, "J", Spread.of(own)))
        if number:
            rise = costs[number] / costs[number - 1]
            rows.append(Row(f"{one.case.name}: joules over the budget before", "×", Spread.of([rise]), SAME))
            rows.append(
                Row(f"{one.case.name}: joules over keeping nothing", "×", Spread.of([costs[number] / costs[0]]), SAME)
            )
    return rows, found, runs


def of_datasets(folder: str, settings: Settings) -> tuple[list[Row], list[optimize_datasets.Result]]:
    """What published examples' datasets save, elements unchanged.

    Args:
        folder: of class folders with JPEGs.
        settings: rounds, and seconds of a search.
    """
    how = argparse.Namespace(epochs=THEIR_EPOCHS, ram=THEIR_RAM, seconds=settings.seconds, seed=0)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, make in makers(folder, scratch).items():
            _note(f"{THEIRS}: {name}")
            found.append(optimize_datasets.measured(name, make, settings.rounds, how))
    rows = []
    for one in found:
        saved = [1 - after / before for before, after in one.rounds]
        rows.append(Row(f"{THEIRS}: {one.name}: CPU saved", "", Spread.of(saved)))
    shares = [1 - one.ratio for one in found]
    return [
        *rows,
        Row(f"{THEIRS}: CPU saved, median of {len(found)}", "", Spread.of(shares), least=optimize_datasets.REACH),
        Row(f"{THEIRS}: the longest search", "s", Spread.of([max(one.seconds for one in found)]), SECONDS_REACH),
    ], found


def run(folder: str, settings: Settings) -> tuple[list[Row], dict[str, Any]]:
    """Everything that was asked for: the rows, and raw figures as JSON data.

    Args:
        folder: of class folders with JPEGs.
        settings: what runs.
    """
    work = workload(folder, settings.batch, settings.threads, settings.images)
    work = replace(work, paths=work.paths * settings.copies, labels=work.labels * settings.copies)
    meters = counted()
    rows: list[Row] = []
    all_searches: list[Searched] = []
    all_runs: list[Run] = []
    predicted: list[Any] = []
    for subject in (one for one in SUBJECTS if one in settings.only):
        found = [
            searched(work, case, settings, "energy" if meters else "cpu")
            for case in cases(work, [subject], settings.epochs)
        ]
        truths = Truths(found, settings.most)
        stays = [truths.name_of(k, one.found.winner) for k, one in enumerate(found)]
        stays += [truths.name_of(k, one.found.today.name) for k, one in enumerate(found) if one.found.today]
        runs = exhaustively(work, truths.subjects, rounds=settings.rounds, stays=stays, meters=meters, note=_note)
        rows += judged(found, truths, runs, meters)
        more, raw = predictions(found, truths, runs)
        rows, predicted = rows + more, predicted + raw
        all_searches, all_runs = all_searches + found, all_runs + runs
    if predicted:
        rows.append(inside_row(predicted))
    if BUDGETS in settings.only:
        more, found, runs = of_budgets(work, settings, meters)
        rows, all_searches, all_runs = rows + more, all_searches + found, all_runs + runs
    if all_searches:
        longest = max(one.took_s for one in all_searches)
        rows.append(Row("the longest search", "s", Spread.of([longest]), SECONDS_REACH))
    improved: list[optimize_datasets.Result] = []
    if THEIRS in settings.only:
        more, improved = of_datasets(folder, settings)
        rows += more
    return rows, {
        "images": len(work.paths),
        "counted": meters,
        "searches": [
            {"case": asdict(one.case), "took_s": one.took_s, "told": one.told, "found": one.found.to_dict()}
            for one in all_searches
        ],
        "predictions": predicted,
        "datasets": [asdict(one) | {"ratio": one.ratio} for one in improved],
        "runs": [asdict(one) for one in all_runs],
    }


def inside_row(predicted: Sequence[Any]) -> Row:
    """Of all searches, the share whose prediction holds the first whole run."""
    inside = [
        one["predicted_cpu_s"]["low"] <= one["seen_cpu_s"][0] <= one["predicted_cpu_s"]["high"] for one in predicted
    ]
    share = Spread.of([sum(inside) / len(inside)])
    return Row(f"whole runs inside what was predicted, share of {len(inside)}", "", share, least=INSIDE_REACH)


def counted() -> bool:
    """Whether a counter reads the processor's joules here."""
    meters, _ = discover()
    channels = [channel for meter in meters for channel in meter.channels]
    return any(channel.provenance == "measured" and Domain.parse(channel.domain).kind == "cpu" for channel in channels)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(prog="python -m bench.optimize", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench-optimize.json"), help="the JSON file to write")
    parser.add_argument("--photos", help="a folder of class folders with JPEGs; sample photographs if not given")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts to run: {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="shorter searches, fewer plans and rounds")
    for name in ("images", "copies", "batch", "threads", "rounds", "most", "epochs"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--seconds", type=float, help="that a search takes")
    options = parser.parse_args(argv)
    options.only = tuple(part.strip() for part in options.only.split(","))
    if unknown := sorted(set(options.only) - set(PARTS)):
        parser.error(f"--only takes parts of {', '.join(PARTS)}, not {', '.join(unknown)}")
    return options


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run it; 1 where something is out of reach."""
    options = arguments(argv)
    base = QUICK if options.quick else Settings()
    given = {field.name: getattr(options, field.name) for field in fields(Settings)}
    settings = Settings(**{name: getattr(base, name) if value is None else value for name, value in given.items()})
    start, load = time.perf_counter(), os.getloadavg()
    with photos(options.photos, settings.images) as folder:
        rows, raw = run(folder, settings)
    result = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(machine()),
        "settings": asdict(settings),
        "load_average": {"before": load, "after": os.getloadavg()},
        "wall_s": time.perf_counter() - start,
        "rows": [asdict(row) | {"met": row.met} for row in rows],
        **raw,
    }
    file_output.write(options.out, json.dumps(result, indent=1) + "\n")
    print(table(rows))
    print(f"{options.out}: every run, in {result['wall_s']:.0f} s")
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
