"""A profile of anyone's ``tf.data.Dataset``: walked, counted, run under meters, and told apart."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from greenload.energy.attribution.attribute import attribute, trial_cost, trial_wall_ns
from greenload.energy.attribution.costs import Attribution
from greenload.energy.attribution.epochs import first_epoch, later_epochs
from greenload.energy.attribution.observation import ITERATOR_START, Metering, Observation
from greenload.energy.attribution.precision import Length
from greenload.energy.figures import scale
from greenload.energy.sampler import Sampler
from greenload.errors import UsageError
from greenload.machine import processors
from greenload.plans.steps import TF_DATA
from greenload.profiling.pace import Announce, Pace
from greenload.profiling.page_cache import ColdFiles, Dropped
from greenload.profiling.tfdata import belonging
from greenload.profiling.tfdata.advice import advise
from greenload.profiling.tfdata.bounds import bound, draws
from greenload.profiling.tfdata.caches import Stores
from greenload.profiling.tfdata.campaign import DatasetCampaign
from greenload.profiling.tfdata.counting import count
from greenload.profiling.tfdata.files import files_of_dataset
from greenload.profiling.tfdata.graph import DALI_NODE, Node, walk
from greenload.profiling.tfdata.guard import Pulse, patiently
from greenload.profiling.tfdata.rebuild import BUFFER, Builder
from greenload.profiling.tfdata.remarks import drawn_while_traced, remarks
from greenload.profiling.tfdata.skipped import notes
from greenload.profiling.tfdata.states import kept
from greenload.profiling.tfdata.units import ranks, unit
from greenload.profiling.windows import Progress
from greenload.report.costs import CacheState, FirstEpoch, IteratorStart, ReportStep, whole_costs
from greenload.report.data import Advice, Precision, Skipped
from greenload.system.random_states import random_states_kept
from greenload.system.scratch import ScratchFolder

if TYPE_CHECKING:
    import tensorflow as tf

_COUNTING, _STEPS = 0.05, 0.75  # shares of the progress that counting takes, and the steps' windows


@dataclass(frozen=True)
class DatasetProfile:
    """What was found of a dataset, ready for a report."""

    pipeline: Mapping[str, Any]
    plan: Mapping[str, Any]
    samples: int
    steps: tuple[ReportStep, ...]
    attribution: Attribution
    first_epoch: FirstEpoch | None
    caches: tuple[CacheState, ...]
    iterator_start: IteratorStart | None
    skipped: tuple[Skipped, ...]
    advice: tuple[Advice, ...]
    windows: tuple[Observation, ...]
    precision: Precision | None
    dropped: tuple[Dropped, ...]


def is_dataset(value: object) -> bool:
    """Whether something is a ``tf.data.Dataset``; imports nothing."""
    return any(one.__name__ == "DatasetV2" and one.__module__.startswith("tensorflow") for one in type(value).__mro__)


def profile_dataset(
    dataset: tf.data.Dataset,
    sampler: Sampler,
    domains: Mapping[str, Metering],
    *,
    threads: int | None,
    samples: int,
    rounds: int,
    seed: int,
    precision: float | None,
    told: Progress,
    announce: Announce | None,
    cold: bool,
    samples_per_element: float | str | None = None,
) -> DatasetProfile:
    """Measure the steps of a dataset; arguments as for ``greenload.profile``.

    Raises:
        SourceError: the dataset raised, or no element came for a minute.
        UsageError: it is empty.
    """
    begun_s = time.monotonic()
    root = walk(dataset)
    files = ColdFiles(files_of_dataset(dataset)) if cold else None
    pulse = Pulse()
    parallel = threads or processors()

    def progress(share: float, text: str) -> None:
        pulse()
        told(share, text)

    def work() -> DatasetProfile:
        progress(0.0, "counting elements")
        with ScratchFolder() as scratch:
            drawn = drawn_while_traced(root)
            counts = count(root, Builder(scratch), samples, pulse, unit(root, samples_per_element))
            campaign = DatasetCampaign(
                root, counts, scratch, parallel, samples, pulse, sampler, rounds, seed, progress, files
            )

            def shown() -> list[Node]:
                found = [node for node in campaign.rows if node.name not in campaign.failed]
                if not found:
                    raise UsageError(f"no step of the dataset could be measured: {'; '.join(campaign.failed.values())}")
                return found

            def given() -> dict[str, Any]:
                in_place = {name: 0.0 for name, method in campaign.methods.items() if method == "prefix"}
                return {"domains": domains, "idle_power_w": sampler.idle_power_w, "isolation_bias": in_place}

            def each(seen: Sequence[Observation]) -> Attribution:
                """Every step's own cost whenever it runs; a cache's is that of reading it."""
                return attribute(seen, steps=[node.name for node in shown()], **given())

            def bounded(length: Length) -> tuple[Length, str]:
                rows = [node for node in campaign.rows if node.name not in campaign.failed]
                found = bound(
                    counts,
                    rows,
                    campaign.stores,
                    samples,
                    length.rounds,
                    campaign.window_s if precision is None else length.window_s,
                    time.monotonic() - begun_s,
                    planned=precision is not None,
                )
                campaign.keep_within(found)
                builds = dict.fromkeys(map(str, (length.builds, length.most_builds)))
                text = draws(counts, rows, found, "–".join(builds))
                least_s, most_s = found.seconds(length.builds), found.seconds(length.most_builds)
                return replace(length, rounds=found.rounds, seconds=least_s, most_seconds=most_s), f": {text}"

            pace = Pace(precision, each, announce)
            pace.plan(campaign, len(campaign.rows), rounds, bounded)
            campaign.measure(_STEPS, pace.further)
            attribution = each(campaign.seen)
            reached = pace.found(attribution, campaign.seen)
            advice = remarks(root, drawn) + advise(campaign, attribution, domains, 1 - _STEPS, frozenset(drawn))
            names = belonging.row_names(root)
            stores, first = campaign.stores, None
            if stores:
                runs = {node.name: stores.runs(node) for node in shown()}
                always = [name for name, when in runs.items() if when == "every epoch"]
                attribution = later_epochs(campaign.seen, steps=list(runs), runs=always, **given())
            if stores.empty:
                run = [name for name, when in runs.items() if when != "no epoch"]
                filled = [node.name for node in stores.empty]
                first = first_epoch(campaign.seen, steps=run, caches=filled, **given())
            progress(1.0, "done")
            return DatasetProfile(
                pipeline={"nodes": [node.to_dict() for node in root.nodes()], "element_spec": str(root.element_spec)},
                plan=_plan(campaign, parallel),
                samples=counts.samples,
                steps=belonging.together(list(_rows(shown(), campaign, attribution, stores)), names),
                attribution=replace(attribution, indistinct=belonging.untouched(attribution.indistinct, names)),
                first_epoch=None if first is None else _first_epoch(shown(), campaign, first, names),
                caches=stores.states(),
                iterator_start=_iterator_start(campaign, domains),
                skipped=tuple(replace(one, name=names.get(one.name, one.name)) for one in notes(campaign)),
                advice=advice,
                windows=tuple(campaign.seen),
                precision=reached,
                dropped=tuple(campaign.dropped),
            )

    with random_states_kept(), kept(root):
        return patiently(work, pulse)


def _rows(
    shown: Sequence[Node], campaign: DatasetCampaign, attribution: Attribution, stores: Stores | None = None
) -> Iterator[ReportStep]:
    """Rows of the nodes that have a cost; of those of ``stores``, when they run."""
    costs = {step.name: step for step in attribution.steps}
    for node in shown:
        if (found := costs.get(node.name)) is None:
            continue
        yield ReportStep(
            name=node.name,
            stages=(node.kind,),
            backend=_backend(node),
            method=campaign.methods[node.name] if stores is not None else found.method,
            branch=node.branch,
            where=node.where,
            runs="every epoch" if stores is None else stores.runs(node),
            cpu_s_per_sample=found.cost.cpu_s_per_sample,
            energy_j_per_sample=found.cost.energy_j_per_sample,
            device_bytes_per_sample=found.cost.device_bytes_per_sample,
            reads_per_sample=found.cost.reads_per_sample,
            bytes_out_per_sample=campaign.bytes_out.get(node.name),
        )


def _first_epoch(
    shown: Sequence[Node], campaign: DatasetCampaign, found: Attribution, names: Mapping[str, str]
) -> FirstEpoch:
    steps = belonging.together(list(_rows(shown, campaign, found)), names)
    return FirstEpoch(
        steps=steps, **whole_costs(replace(found, indistinct=belonging.untouched(found.indistinct, names)))
    )


def _iterator_start(campaign: DatasetCampaign, domains: Mapping[str, Metering]) -> IteratorStart | None:
    """What starting an iterator costs; None where that wasn't measured, or isn't told from nothing."""
    if not any(window.step == ITERATOR_START for window in campaign.seen):
        return None
    samples = (campaign.counts.epoch_elements or 0) * campaign.counts.samples_per_element
    cost = trial_cost(campaign.seen, step=ITERATOR_START, domains=domains)
    if not samples or cost.cpu_s_per_sample.low is None or cost.cpu_s_per_sample.low <= 0:
        return None
    wall = trial_wall_ns(campaign.seen, step=ITERATOR_START)
    return IteratorStart(
        cpu_s=scale(cost.cpu_s_per_sample, samples),
        wall_s=scale(wall, samples * 1e-9),
        samples=samples,
        energy_j={name: scale(figure, samples) for name, figure in cost.energy_j_per_sample.items()},
    )


def _backend(node: Node) -> str:
    return "dali" if node.kind == DALI_NODE else TF_DATA


def _plan(campaign: DatasetCampaign, parallel: int) -> dict[str, Any]:
    """How the dataset was run, as data."""
    root, counts = campaign.root, campaign.counts
    autotuned = [
        node.row
        for node in root.nodes()
        if -1 in (node.parameters.get("num_parallel_calls"), node.parameters.get("buffer_size"))
    ]
    steps = []
    for node in campaign.rows:
        flow = counts.flows[node]
        before = campaign.replays.before(node)
        steps.append(
            node.to_dict()
            | {
                "stages": [node.kind],
                "backend": _backend(node),
                "in": "" if before is None else str(before.element_spec),
                "out": str(node.element_spec),
                "elements_per_sample": flow.elements_per_sample,
                "bytes_per_element": flow.bytes_per_element,
                "method": campaign.methods.get(node.name, ""),
            }
        )
    return {
        "backend": "tf",
        "threads": parallel,
        "sample": counts.unit.text,
        "sample_unit": counts.unit.name,
        "sample_known": counts.unit.known,
        "element_ranks": ranks(root.element_spec),
        "samples_per_element": counts.samples_per_element,
        "epoch_elements": counts.epoch_elements,
        "endless": counts.endless,
        "bounds": campaign.bounds.to_dict() if campaign.bounds is not None else {},
        "autotune": {
            "steps": list(dict.fromkeys(autotuned)),
            "note": f"where it says AUTOTUNE, {parallel} calls ran in parallel and prefetch held {BUFFER} elements",
        },
        "options": _options(root.dataset.options()),
        "steps": steps,
    }


def _options(given: tf.data.Options) -> dict[str, Any]:
    """What is set, by the names of TensorFlow's protocol buffer: the text of ``tf.data.Options`` is an address."""
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

    found = MessageToDict(given._to_proto(), preserving_proto_field_name=True)
    return {name: value for name, value in found.items() if value != {}}
