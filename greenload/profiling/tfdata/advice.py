"""Changes that may be worth making, and what each saves: tried beside the dataset as it is, in adjacent windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from greenload.energy.attribution.attribute import trial_cost
from greenload.energy.attribution.costs import Attribution
from greenload.energy.attribution.observation import Metering, Observation
from greenload.energy.attribution.quantity import NEGLIGIBLE
from greenload.energy.figures import Figure
from greenload.errors import GreenloadError
from greenload.profiling.tfdata.campaign import DatasetCampaign
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.rules import RULES, Candidate, Found, line
from greenload.report.data import Advice

SHOWN = 3
"""Changes that a report names, at most."""
TRIED = 4
"""Changes that are tried, at most: each takes some ten seconds."""


def advise(
    campaign: DatasetCampaign,
    attribution: Attribution,
    domains: Mapping[str, Metering],
    share: float,
    drawn: frozenset[Node] = frozenset(),
) -> tuple[Advice, ...]:
    """Try the changes that promise most, and give those that save more than 1 % of the whole, the largest first.

    Args:
        campaign: of the dataset, its steps measured.
        attribution: their costs.
        domains: of energy.
        share: of the progress, that this takes.
        drawn: nodes that draw from Python's or NumPy's random while they are traced.
    """
    candidates = sorted(_candidates(campaign, attribution, drawn), key=lambda one: one.expected_s, reverse=True)
    full_s = attribution.full.cpu_s_per_sample.value or 0.0
    candidates = [one for one in candidates if one.expected_s > NEGLIGIBLE * full_s][:TRIED]
    tried = [
        measured(candidate.title, candidate.detail, campaign.seen, domains)
        for candidate in candidates
        if campaign.in_time() and _ran(campaign, candidate, share / len(candidates))
    ]
    return best(tried, full_s)


def best(tried: Iterable[Advice], full_s: float) -> tuple[Advice, ...]:
    """Those that save more than 1 % of the whole, and resolved, the largest first.

    Args:
        tried: changes, as measured.
        full_s: CPU seconds a sample of the whole.
    """
    worth = [one for one in tried if _worth(one.saves_cpu_s_per_sample, full_s)]
    return tuple(sorted(worth, key=lambda one: one.saves_cpu_s_per_sample.value or 0.0, reverse=True)[:SHOWN])


def _worth(saves: Figure, full_s: float) -> bool:
    return saves.value is not None and saves.value > NEGLIGIBLE * full_s and (saves.low or 0.0) > 0


def _candidates(campaign: DatasetCampaign, attribution: Attribution, drawn: frozenset[Node]) -> list[Candidate]:
    import psutil

    found = Found(
        root=campaign.root,
        counts=campaign.counts,
        costs={step.name: step.cost.cpu_s_per_sample for step in attribution.steps},
        line=line(campaign.root),
        free_bytes=float(psutil.virtual_memory().available),
        drawn=drawn,
    )
    return [one for rule in RULES if (one := rule(found)) is not None]


def _ran(campaign: DatasetCampaign, candidate: Candidate, share: float) -> bool:
    """Run a candidate's windows. One that can't run is none: the user's own dataset did."""
    import tensorflow as tf

    before = len(campaign.seen)
    try:
        campaign.trial(candidate.title, lambda: candidate.make(campaign.builder), share)
    except (tf.errors.OpError, GreenloadError, ValueError, TypeError):
        del campaign.seen[before:]
        return False
    return True


def measured(title: str, detail: str, seen: Sequence[Observation], domains: Mapping[str, Metering]) -> Advice:
    """What a change saved in its trial.

    Args:
        title: of the change, and of its windows: kind "with" as it is, "without" with the change made.
        detail: what to write.
        seen: all windows of the profile.
        domains: of energy.
    """
    cost = trial_cost(seen, step=title, domains=domains)
    return Advice(
        title=title,
        detail=detail,
        method="trial",
        saves_cpu_s_per_sample=cost.cpu_s_per_sample,
        saves_energy_j_per_sample=dict(cost.energy_j_per_sample),
    )
