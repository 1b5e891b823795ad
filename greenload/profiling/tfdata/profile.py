"""A profile of anyone's ``tf.data.Dataset``: walked, counted, run under meters, and told apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from greenload.energy.attribution.observation import IN_PLACE
from greenload.energy.attribution.precision import Length
from greenload.energy.meters.base import MeterStatus
from greenload.energy.sampler import Sampler
from greenload.profiling import schedule
from greenload.profiling.options import Options
from greenload.profiling.pace import Pace
from greenload.profiling.page_cache import ColdFiles
from greenload.profiling.report_rows import make_report
from greenload.profiling.tfdata.advice import advise
from greenload.profiling.tfdata.bounds import passes_text, plan_bounds, plan_clocked_bounds
from greenload.profiling.tfdata.clocked_campaign import ClockedCampaign
from greenload.profiling.tfdata.counting import count_elements
from greenload.profiling.tfdata.files import files_of_dataset
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.guard import Pulse, patiently
from greenload.profiling.tfdata.passes import (
    CLOCKED_SAMPLES,
    ClockedCopyOf,
)
from greenload.profiling.tfdata.rebuild import BUFFER, Builder
from greenload.profiling.tfdata.remarks import drawn_while_traced, remarks
from greenload.profiling.tfdata.report_rows import backend_of, dataset_rows, iterator_start_cost, row_names
from greenload.profiling.tfdata.skipped import skipped_steps
from greenload.profiling.tfdata.states import states_kept
from greenload.profiling.tfdata.units import ranks, sample_unit
from greenload.profiling.tfdata.walk import walk
from greenload.report.data import Report
from greenload.system.frameworks import tf
from greenload.system.random_states import random_states_kept
from greenload.system.scratch import ScratchFolder

_STEPS = 0.75  # share of the progress that the steps' windows take; trials take the rest


def is_dataset(value: object) -> bool:
    """Whether something is a ``tf.data.Dataset``; imports nothing."""
    return any(
        base.__name__ == "DatasetV2" and base.__module__.startswith("tensorflow") for base in type(value).__mro__
    )


def profile_dataset(
    dataset: tf.data.Dataset,
    sampler: Sampler,
    statuses: Sequence[MeterStatus],
    options: Options,
    copy_of: ClockedCopyOf,
) -> Report:
    """Measure the steps of a dataset.

    Args:
        dataset: what to profile.
        sampler: running; reads the meters.
        statuses: what is known of the meters.
        options: of the profile.
        copy_of: makes copies with clocks around functions.

    Raises:
        SourceError: the dataset raised, or no element came for a minute.
        UsageError: it is empty, or has more than 300 nodes.
    """
    begun_s = time.monotonic()
    root = walk(dataset)
    cold = ColdFiles(files_of_dataset(dataset)) if options.cold else None
    pulse = Pulse()

    def progress(share: float, text: str) -> None:
        pulse()
        options.progress(share, text)

    measurement = _Measurement(
        root, sampler, statuses, replace(options, progress=progress), cold, pulse, begun_s, copy_of
    )
    with random_states_kept(), states_kept(root):
        return patiently(measurement.report, pulse)


@dataclass(frozen=True)
class _Measurement:
    """What a dataset is measured with."""

    root: Node
    sampler: Sampler
    statuses: Sequence[MeterStatus]
    options: Options
    cold: ColdFiles | None
    told: Callable[[], None]
    """Called whenever elements have passed."""
    begun_s: float
    """When it began, by ``time.monotonic``."""
    copy_of: ClockedCopyOf

    def report(self) -> Report:
        """Measure the dataset."""
        root, options = self.root, self.options
        options.progress(0.0, "counting elements")
        with ScratchFolder() as scratch:
            drawn = drawn_while_traced(root)
            unit = sample_unit(root, options.samples_per_element)
            counts = count_elements(root, Builder(scratch), options.samples, self.told, unit)
            campaign = ClockedCampaign(
                root, counts, scratch, self.told, self.sampler, options, self.cold, copy_of=self.copy_of
            )
            campaign.watch()
            pace = Pace(options.precision, campaign.attributed, options.announce)
            pace.plan(campaign, len(campaign.rows), options.rounds, lambda length: self.bounded(campaign, length))
            campaign.measure(_STEPS, pace.further)
            attribution = campaign.attributed(campaign.seen)
            reached = pace.reached(attribution, campaign.seen)
            advice = remarks(root, drawn) + advise(campaign, attribution, 1 - _STEPS, frozenset(drawn))
            names = row_names(root)
            shown, rows = dataset_rows(campaign, attribution)
            options.progress(1.0, "done")
            return make_report(
                shown,
                campaign.dropped,
                meters=tuple(self.statuses),
                pipeline={
                    "nodes": [node.to_dict() for node in root.nodes()],
                    "element_spec": str(root.element_spec),
                    "name": options.name or "tf.data.Dataset",
                },
                plan=_plan(campaign),
                samples=counts.samples,
                **rows,
                iterator_start=iterator_start_cost(campaign),
                skipped=tuple(replace(step, name=names.get(step.name, step.name)) for step in skipped_steps(campaign)),
                advice=advice,
                precision=reached,
                windows=tuple(campaign.seen),
            )

    def bounded(self, campaign: ClockedCampaign, length: Length) -> tuple[Length, str]:
        """The length that the campaign keeps to, for one that is planned, and what more is announced."""
        if campaign.clocked:
            return self._clocked_length(campaign, length)
        planned = self.options.precision is not None
        rows = [node for node in campaign.rows if node.name not in campaign.failed]
        bounds = plan_bounds(
            campaign.counts,
            rows,
            campaign.stores,
            samples=self.options.samples,
            rounds=length.rounds,
            window_s=length.window_s if planned else campaign.window_s,
            counting_s=time.monotonic() - self.begun_s,
            planned=planned,
        )
        campaign.keep_within(bounds)
        builds = dict.fromkeys(map(str, (length.builds, length.most_builds)))
        text = passes_text(campaign.counts, rows, bounds, "–".join(builds))
        least_s, most_s = bounds.seconds(length.builds), bounds.seconds(length.most_builds)
        return replace(length, rounds=bounds.rounds, seconds=least_s, most_seconds=most_s), f": {text}"

    def _clocked_length(self, campaign: ClockedCampaign, length: Length) -> tuple[Length, str]:
        """The same where functions have clocks: short windows, but where a counter needs long ones."""
        options = self.options
        window_s = schedule.window_s(length, campaign.channels)
        least, most = schedule.least_builds(options.precision), schedule.most_builds(options.precision)
        campaign.window_s = window_s
        bounds = plan_clocked_bounds(
            campaign.counts,
            campaign.replayed,
            campaign.stores,
            samples=options.samples if campaign.counted else min(options.samples, CLOCKED_SAMPLES),
            rounds=schedule.clocked_rounds(options.rounds),
            window_s=window_s,
            counting_s=time.monotonic() - self.begun_s,
            least_builds=least,
        )
        campaign.keep_within(bounds)
        text = passes_text(campaign.counts, campaign.rows, bounds, "–".join(dict.fromkeys(map(str, (least, most)))))
        seconds = bounds.seconds(least), bounds.seconds(most)
        return Length(window_s, bounds.rounds, least, most, *seconds), f": {text}"


def _plan(campaign: ClockedCampaign) -> dict[str, Any]:
    """How the dataset was run, as data."""
    root, counts = campaign.root, campaign.counts
    autotuned = [
        node.row
        for node in root.nodes()
        if -1 in (node.parameters.get("num_parallel_calls"), node.parameters.get("buffer_size"))
    ]
    in_place = campaign.clocked | campaign.counted_with.keys()
    steps = []
    for node in campaign.rows:
        flow = counts.flows[node]
        before = campaign.replays.before(node)
        steps.append(
            node.to_dict()
            | {
                "stages": [node.kind],
                "backend": backend_of(node),
                "in": "" if before is None else str(before.element_spec),
                "out": str(node.element_spec),
                "elements_per_sample": flow.elements_per_sample,
                "bytes_per_element": flow.bytes_per_element,
                "method": IN_PLACE if node.name in in_place else campaign.methods.get(node.name, ""),
            }
        )
    return {
        "backend": "tf",
        "threads": campaign.parallel,
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
            "note": f"where it says AUTOTUNE, {campaign.parallel} calls ran in parallel and prefetch held {BUFFER}"
            " elements",
        },
        "options": _options(root.dataset.options()),
        "steps": steps,
    }


def _options(given: tf.data.Options) -> dict[str, Any]:
    """What is set, by the names of TensorFlow's protocol buffer: the text of ``tf.data.Options`` is an address."""
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

    named = MessageToDict(given._to_proto(), preserving_proto_field_name=True)
    return {name: value for name, value in named.items() if value != {}}
