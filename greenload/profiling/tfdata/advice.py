"""Changes that may be worth making, and what each saves: tried beside the dataset as it is, in adjacent windows."""

from __future__ import annotations

from greenload.energy.attribution.costs import Attribution
from greenload.energy.attribution.quantity import NEGLIGIBLE
from greenload.errors import GreenloadError
from greenload.profiling.advice import most_saving, trial_advice
from greenload.profiling.tfdata.campaign import DatasetCampaign
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.rules import RULES, MeasuredDataset, Proposal, main_line
from greenload.report.data import Advice
from greenload.system.frameworks import tf

TRIED = 4
"""Changes that are tried, at most: each takes some ten seconds."""


def advise(
    campaign: DatasetCampaign,
    attribution: Attribution,
    share: float,
    drawn: frozenset[Node] = frozenset(),
) -> tuple[Advice, ...]:
    """Try the changes that promise most, and give those that save more than 1 % of the whole, the largest first.

    Args:
        campaign: of the dataset, its steps measured.
        attribution: their costs.
        share: of the progress, that this takes.
        drawn: nodes that draw from Python's or NumPy's random while they are traced.
    """
    proposals = sorted(
        _candidates(campaign, attribution, drawn), key=lambda proposal: proposal.expected_s, reverse=True
    )
    full_s = attribution.full.cpu_s_per_sample.value or 0.0
    proposals = [proposal for proposal in proposals if proposal.expected_s > NEGLIGIBLE * full_s][:TRIED]
    tried = [
        trial_advice(candidate.title, candidate.detail, campaign.seen, campaign.domains)
        for candidate in proposals
        if campaign.in_time() and _ran(campaign, candidate, share / len(proposals))
    ]
    return most_saving(tried, full_s)


def _candidates(campaign: DatasetCampaign, attribution: Attribution, drawn: frozenset[Node]) -> list[Proposal]:
    import psutil

    measured = MeasuredDataset(
        root=campaign.root,
        counts=campaign.counts,
        costs={step.name: step.cost.cpu_s_per_sample for step in attribution.steps},
        line=main_line(campaign.root),
        free_bytes=float(psutil.virtual_memory().available),
        drawn=drawn,
    )
    return [proposal for rule in RULES if (proposal := rule(measured)) is not None]


def _ran(campaign: DatasetCampaign, candidate: Proposal, share: float) -> bool:
    """Run a proposal's windows; False where the changed dataset can't run, though the user's own does."""
    before = len(campaign.seen)
    try:
        campaign.trial(candidate.title, lambda: candidate.make(campaign.builder), share)
    except (tf.errors.OpError, GreenloadError, ValueError, TypeError):
        del campaign.seen[before:]
        return False
    return True
