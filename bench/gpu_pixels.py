"""How far a device's pixels lie from the float64 references, for ``bench.gpu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from greenload.backends.base import Records
from greenload.backends.chain import run_plan
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.sources import ImageFolder
from greenload.stages import (
    Batch,
    CenterCrop,
    ColorJitter,
    Decode,
    GaussianBlur,
    Normalize,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    ToDtype,
)

CHECKED = 64
SEED = 7
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JITTER, HUE_TURNS, DEGREES, TAPS, SIGMA, ERASED = 0.4, 0.1, 15.0, 9, (0.1, 2.0), 0.25
AUGMENTATIONS = (
    ColorJitter(JITTER, JITTER, JITTER, HUE_TURNS),
    RandomRotation(DEGREES),
    GaussianBlur(TAPS, SIGMA),
    RandomErasing(ERASED),
)
"""What the augmented contest does between the resized crop and the flip."""


def pixels(folder: str, backend: str, threads: int, side: int) -> dict[str, Any]:
    """How far the device's pixels lie from the float64 references, over the first images: in levels of 0 … 255."""
    source = ImageFolder(folder)
    order = list(range(min(CHECKED, len(source))))
    encoded, names = [source.read(i) for i in order], [source.name(i) for i in order]
    decoded = [decode_on_cpu(data) for data in encoded]
    norm = (ToDtype("float32", scale=True), Normalize(MEAN, STD))
    checks: dict[str, tuple[tuple[Any, ...], Any]] = {
        "decode": ((CenterCrop(200),), 1.0),
        "decode, crop, resize": ((RandomResizedCrop(side),), 1.0),
        "all, float32": ((RandomResizedCrop(side), RandomHorizontalFlip(), *norm), 255.0 * np.array(STD)),
        "augmented, float32": (
            (RandomResizedCrop(side), *AUGMENTATIONS, RandomHorizontalFlip(), *norm),
            255.0 * np.array(STD),
        ),
    }
    found = {}
    for label, (stages, levels) in checks.items():
        pipeline = Pipeline(source, Decode(), *stages, Batch(len(order)), seed=SEED)
        layout = DrawLayout.of(pipeline)
        numbers = layout.prepare(SEED, 0, np.array(order))
        plan = make_plan(pipeline, backend, threads=threads)
        result = run_plan(plan, Records(encoded, numbers, names))
        difference = np.stack(
            [
                np.abs(image.astype(np.float64) - by_reference(pipeline, layout, pixels_in, numbers[i : i + 1]))
                * levels
                for i, (image, pixels_in) in enumerate(zip(result, decoded, strict=True))
            ]
        )
        inside = difference[:, 1:-1, 1:-1]
        found[label] = {
            "images": len(order),
            "max_levels": float(inside.max()),
            "mean_levels": float(difference.mean()),
            "p99_levels": float(np.quantile(inside, 0.99)),
            "rim_max_levels": float(difference.max()),
        }
    return found


def decode_on_cpu(data: bytes) -> Any:
    """libjpeg's pixels, by DALI's CPU decoder."""
    from nvidia.dali import Pipeline as Graph
    from nvidia.dali import fn

    graph = Graph(batch_size=1, num_threads=1, device_id=None)
    with graph:
        file = fn.external_source(source=lambda: [np.frombuffer(data, np.uint8)])
        graph.set_outputs(fn.decoders.image(file, device="cpu", adjust_orientation=False))
    graph.build()
    return np.array(graph.run()[0].at(0))


def by_reference(pipeline: Pipeline, layout: DrawLayout, image: Any, numbers: Any) -> Any:
    """One decoded image through every stage's float64 reference."""
    for place, stage in enumerate(pipeline.stages):
        share = layout.of_stage(numbers, place)
        params = stage.params(share, np.array([image.shape[0]]), np.array([image.shape[1]]))
        image = stage.reference(image, {name: values[0] for name, values in params.items()})
    return image
