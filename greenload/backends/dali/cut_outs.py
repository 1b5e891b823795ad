"""Gives DALI's decoder smaller files where it decodes windows: of transcoded JPEGs only the segments that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import Images
from greenload.backends.dali.graph import feed_name
from greenload.backends.image_sizes import BatchSizes, plain
from greenload.backends.native.cut_outs import cut_outs, is_transcoded
from greenload.errors import BackendUnavailable
from greenload.plans.steps import Step
from greenload.stages import primitives as p

Fed = dict[str, NDArray[np.generic]]


def graph_inputs(steps: Sequence[Step], images: Images, sizes: BatchSizes, arguments: Fed) -> tuple[Images, Fed]:
    """A batch's images as DALI is to see them, and what the other inputs are fed for those.

    Where the first step decodes windows, of transcoded JPEGs smaller ones are seen, in which the windows lie elsewhere.
    Whatever else follows from an image's size is left as it is.

    Args:
        steps: of the graph.
        images: files' bytes, or pixels.
        sizes: of the images.
        arguments: what the other inputs are fed for the images, by name.
    """
    seen = plain(images, sizes)
    if not isinstance(steps[0].primitive, p.DecodeCrop):
        return seen, arguments
    made_anew = {position for position, _ in (*sizes.filled, *sizes.as_png)}
    given: Any = images  # files all: the step decodes
    able = [i for i, file in enumerate(given) if i not in made_anew and is_transcoded(file)]
    if not able:
        return seen, arguments
    start, shape = arguments[feed_name("start", 0)], arguments[feed_name("shape", 0)]
    try:
        made = cut_outs([given[i] for i in able], np.hstack((start, shape))[able])
    except BackendUnavailable:
        return seen, arguments
    files: list[Any] = list(seen)
    moved = start.copy()
    for index, cut_out in made.items():
        files[able[index]] = cut_out.file
        moved[able[index]] -= (cut_out.top, cut_out.left)
    return files, {**arguments, feed_name("start", 0): moved}
