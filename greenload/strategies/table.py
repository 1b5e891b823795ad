"""A comparison of strategies for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from greenload.energy.figures import Figure, scale
from greenload.report import notes
from greenload.report.checks import check_line
from greenload.report.columns import FigureTable, Line, Sentence
from greenload.report.rows import band, by_group
from greenload.strategies.records import Card, Compared, StepUp, Tie
from greenload.text import DASH, amount, printable

_TIES_SHOWN = 6


def render_comparison(choice: Compared) -> RenderableType:
    """A comparison for a rich console: whom to choose and why, a row for each strategy, what can't be told apart."""
    lines: list[RenderableType] = [_headline(choice), _strategies(choice)]
    lines += [Sentence(printable(text)) for text in (*_steps_up(choice), *_ties(choice))]
    lines += [
        Sentence(printable(f"{limit.strategy}: {check_line(limit.check)}"))
        for limit in choice.limits
        if limit.check.outcome != "met"
    ]
    if choice.checks:
        lines.append(Sentence("Budgets and baseline", "bold"))
    lines += [Sentence(note.text, "red" if note.kind == "failed" else "") for note in notes.checks(choice.checks)]
    lines += [Sentence(printable(f"note: {note}"), "dim") for note in choice.notes]
    if not choice.finished:
        lines.append(Sentence("not finished: compare again with the same file, and it goes on", "bold"))
    return Group(*lines)


def _headline(choice: Compared) -> Sentence:
    if choice.recommended is None:
        return Sentence(printable(f"no recommendation: {choice.reason}"), "bold")
    return Sentence(printable(f"recommended: {choice.reason}"), "bold")  # which begins with the name


def _strategies(choice: Compared) -> FigureTable:
    evaluated = any(card.runs or card.failed for card in choice.cards)
    groups = [name for name in dict.fromkeys(name for card in choice.cards for name in _loader_j(card))]
    starving = any(card.starves is not None for card in choice.cards)
    heads = ["score", f"training\n{choice.unit}", "runs"] if evaluated else []
    heads += ["loader CPU ms\nan image"]
    heads += [f"loader {name} mJ\nan image{_of_model(choice, name)}" for name in groups]
    heads += ["images/s", *(["starves"] if starving else [])]
    lines = []
    for card in choice.cards:
        joules = _loader_j(card)
        cells = [_score(card.score), _score(card.cost), str(card.runs)] if evaluated else []
        cells += [amount(scale(card.cpu_s_per_sample, 1e3))]
        cells += [amount(scale(joules[name], 1e3)) if name in joules else DASH for name in groups]
        cells += [amount(card.images_per_s)]
        cells += [{True: "yes", False: "no", None: DASH}[card.starves]] if starving else []
        lines.append(Line((_name(choice, card), *cells), "dim" if card.left else ""))
    return FigureTable("strategy", heads, lines)


def _loader_j(card: Card) -> Mapping[str, Figure]:
    return by_group(card.energy_j_per_sample)


def _of_model(choice: Compared, name: str) -> str:
    said = band(figure for card in choice.cards for group, figure in _loader_j(card).items() if group == name)
    return f"\n{said}" if said else ""


def _score(figure: Figure) -> str:
    return amount(figure, resolve=False)  # of a single run: without an interval


def _name(choice: Compared, card: Card) -> Text:
    """The name, marked where it is recommended, or in the Pareto set."""
    marks = ["recommended"] if card.strategy == choice.recommended else []
    marks += ["Pareto"] if card.strategy in choice.pareto else []
    marks += [f"{card.failed} failed"] if card.failed else []
    name = Text(printable(card.strategy))
    return name.append(f" ({', '.join(marks)})", "dim") if marks else name


def _steps_up(choice: Compared) -> list[str]:
    return [step_text(step, choice.unit) for step in choice.steps_up]


def step_text(step: StepUp, unit: str) -> str:
    """A step up in words: ``"plain to trivial: 1.2 ±0.3 points more for 310 ±20 J more a run, 258 ±70 J a point"``."""
    each = "" if step.cost_per_point.value is None else f", {amount(step.cost_per_point)} {unit} a point"
    gained, paid = f"{amount(step.points)} points more", f"{amount(step.cost)} {unit} more a run"
    return f"{step.lower} to {step.upper}: {gained} for {paid}{each}"


def tie_text(tie: Tie) -> str:
    """A tie in words: ``"plain and trivial are tied (0.003 ±0.01): about 12 more seeds of both would part them"``."""
    by = "too few runs to say" if tie.difference.value is None else f"{amount(tie.difference, resolve=False)}"
    if tie.more_seeds is None:
        return f"{tie.a} and {tie.b} are tied ({by}): more than 1,000 further seeds would be needed to part them"
    plural = "" if tie.more_seeds == 1 else "s"
    return f"{tie.a} and {tie.b} are tied ({by}): about {tie.more_seeds} more seed{plural} of both would part them"


def _ties(choice: Compared) -> list[str]:
    """The ties of the recommended strategy first."""
    ties = sorted(choice.ties, key=lambda tie: choice.recommended not in (tie.a, tie.b))
    shown = [tie_text(tie) for tie in ties[:_TIES_SHOWN]]
    more = len(ties) - len(shown)
    return [*shown, f"{more} more pairs are tied"] if more > 0 else shown
