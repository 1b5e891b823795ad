"""Measures the costs that are shipped: `python tools/reference_costs.py` writes greenload/planning/costs.json anew.

Runs the thorough set several times, takes each probe's median over the runs, and fits rates to them. Run it where
nothing else runs. What DALI costs on a GPU is derived from the whole pipelines of bench/results/gpu-h100.json.

With `--add` the table keeps what it has, and gets what it lacks, also on another machine than its own: by the median
ratio of what both machines have measured of work on pixels. A probe's other work is taken to cost what the table says.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "greenload" / "planning" / "costs.json"
ON_GPU = ROOT / "bench" / "results" / "gpu-h100.json"
FREE = ("Resize antialias uint8", "Flip uint8", "Affine uint8→float32", "FlipAffine uint8→float32")
"""What the GPU's pipeline did besides decoding."""
ON_PIXELS = ("images on", "mixed")
"""Words in the names of groups of probes on pixels in memory."""


def medians(runs: Sequence[Sequence[Any]]) -> list[Any]:
    """Each probe's median over several runs of all."""
    by_name: dict[str, list[Any]] = {}
    for run in runs:
        for row in run:
            by_name.setdefault(row.name, []).append(row)
    return [
        replace(
            rows[0],
            cpu_s=statistics.median(row.cpu_s for row in rows),
            energy_j={d: statistics.median(row.energy_j[d] for row in rows) for d in rows[0].energy_j},
        )
        for rows in by_name.values()
    ]


def on_gpu(measured: Mapping[str, Any], mean_bytes: float) -> list[Any]:
    """Entries for DALI on a GPU, from whole pipelines at two batch sizes, with the fixed-function decoder.

    What a batch costs and what an image costs follow from the two. An image's cost is put down to its encoded bytes,
    and counted with decoding; that of the other steps of that pipeline isn't known apart, and is 0.
    """
    from greenload.planning.cost_table import CostTerms, Entry

    found = {
        row["setting"]["batch"]: row
        for row in measured["summary"]
        if row["contestant"] == "greenload"
        and row["setting"]["hw_load"] == 1.0
        and row["setting"]["dtype"] == "float32"
    }
    small, large = 64, 256

    def split(key: str) -> tuple[float, float]:
        batch = (found[small][key] - found[large][key]) / (1 / small - 1 / large)
        return batch, (found[large][key] - batch / large) / (mean_bytes / 1e6)

    note = f"derived from whole-pipeline figures on a {measured['machine']['gpu']}"
    cpu, gpu = split("host_cpu_s_per_image"), split("gpu_j_per_image_net_of_idle")

    def entry(what: str, place: int | None, part: str = "") -> Any:
        rates = [CostTerms() if place is None else CostTerms(**{part: float(f"{v[place]:.4g}")}) for v in (cpu, gpu)]
        return Entry("dali", what, rates[0], {"gpu": rates[1]}, note)

    return [
        entry("call", 0, "batch"),
        entry("Decode JPEG", 1, "entering"),
        entry("DecodeCrop JPEG", 1, "entering"),
        *(entry(what, None) for what in FREE),
    ]


def with_lacking(table: Any, rows: Sequence[Any]) -> Any:
    """A table with what it lacks of what another machine measured: as its own machine's, and what the table's rates
    leave of each probe."""
    from greenload.planning.cost_table import Costs
    from greenload.profiling.calibration.calibrate import fit_rates

    here = fit_rates(rows)
    scale = Costs(here, table).scale
    left = []
    for row in rows:
        known = [(work, entry) for work in row.works if (entry := table.get(work.backend, work.what))]
        lacking = tuple(work for work in row.works if table.get(work.backend, work.what) is None)
        if lacking:
            rest = row.cpu_s / scale - sum(work.amounts.at(entry.cpu_s) for work, entry in known)
            left.append(replace(row, works=lacking, cpu_s=rest, energy_j={}))
    note = f"its ratio to other work, measured on another machine ({here.machine['cpu_model']})"
    entries = [replace(entry, note=note) for entry in fit_rates(left).entries]
    print(f"{len(entries)} entries, for a machine {scale:.3g} times as fast")
    return replace(table, entries=(*table.entries, *entries))


def write(table: Any) -> None:
    """Have a table shipped."""
    TABLE.write_text(json.dumps(table.to_dict(), indent=1) + "\n", encoding="utf-8")
    print(f"{len(table.entries)} entries written to {TABLE.relative_to(ROOT)}")


def main() -> None:
    """Measure, fit, write."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="how often everything is measured (default %(default)s)")
    parser.add_argument("--add", action="store_true", help="only add what the table lacks of work on pixels")
    options = parser.parse_args()
    from greenload.machine import processors
    from greenload.planning import cost_table
    from greenload.profiling.calibration import calibrate
    from greenload.sources.samples import make_samples

    begin = time.perf_counter()
    runs = []
    for number in range(options.runs):
        only = ON_PIXELS if options.add else ()
        runs.append(calibrate.measure_probes(threads=processors(), thorough=True, only=only))
        print(f"run {number + 1} of {options.runs}: {len(runs[-1])} probes, {time.perf_counter() - begin:.0f} s")
    if options.add:
        return write(with_lacking(cost_table.reference(), medians(runs)))
    with tempfile.TemporaryDirectory() as folder:
        mean_bytes = make_samples(Path(folder) / "photos", images=256).mean_bytes
    seconds = round(time.perf_counter() - begin, 1)
    table = calibrate.fit_rates(
        medians(runs), source=cost_table.REFERENCE, samples="generated photographs", seconds=seconds
    )
    gpu = on_gpu(json.loads(ON_GPU.read_text()), mean_bytes)
    return write(replace(table, entries=(*table.entries, *gpu)))


if __name__ == "__main__":
    main()
