"""Applies alternatives in TensorFlow to the images that they were drawn for, and sums them.

Single images go through a branch of the graph. Of a batch the rows that an alternative was drawn for are taken out, and
put back: the others aren't worked on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from greenload.backends.base import TableRow
from greenload.backends.tf.lowerings import ROUNDING, by_params, levels
from greenload.specs import DTYPES, ImageSpec
from greenload.stages import primitives as p
from greenload.system.frameworks import tf

Alternative = Callable[[Any, dict[str, Any]], Any]
"""From images and the choice's params to the images after all of an alternative's parts."""


LoweringOf = Callable[[p.Primitive], Any]
"""From a primitive to its lowering, as the backend's table has it."""


def choice(lowering_of: LoweringOf, primitive: p.Choice, before: ImageSpec, after: ImageSpec) -> Any:
    """Each image through the alternatives that its params say."""
    alternatives = [_alternative(lowering_of, parts) for parts in primitive.alternatives]
    turn = _turn_of_batch if before.batched else _turn_of_image

    def changed(image: Any, params: dict[str, Any]) -> Any:
        for number in range(primitive.turns):
            image = turn(alternatives, image, params["choices"][..., number], params)
            image.set_shape(after.shape)
        return image

    return by_params(changed, after)


def weighted_sum(lowering_of: LoweringOf, primitive: p.WeightedSum, before: ImageSpec, after: ImageSpec) -> Any:
    """An image and what its alternatives make of it, summed in float32, where such sums of levels are exact."""
    alternatives = [_alternative(lowering_of, parts) for parts in primitive.alternatives]

    def changed(image: Any, params: dict[str, Any]) -> Any:
        weights = tf.cast(params["weights"], tf.float32)

        def summed() -> Any:
            total = tf.cast(image, tf.float32) * weights[0]
            for turn, apply in enumerate(alternatives):
                total = tf.cond(
                    params["choices"][turn] >= 0,
                    lambda apply=apply, turn=turn, total=total: (
                        total + tf.cast(apply(image, params), tf.float32) * weights[1 + turn]
                    ),
                    lambda total=total: total,
                )
            return levels(total + 0.5, after.dtype)

        return tf.cond(weights[0] < 1.0, summed, lambda: image)

    return by_params(changed, after)


def _alternative(lowering_of: LoweringOf, parts: Sequence[p.Part]) -> Alternative:
    steps = [(part.stage, _lowered(lowering_of(part.primitive), part)) for part in parts]

    def apply(image: Any, params: dict[str, Any]) -> Any:
        for stage, lower in steps:
            image = lower(image, p.params_of(params, stage))[0]
        return image

    return apply


def _lowered(lower: Any, part: p.Part) -> Any:
    before, after = _of_any_count(part.spec_in), _of_any_count(part.spec_out)
    if isinstance(part.primitive, ROUNDING):  # what passes it by is of the images' own dtype
        return lower(part.primitive, before, after, after.dtype)
    return lower(part.primitive, before, after)


def _of_any_count(spec: ImageSpec) -> ImageSpec:
    """A spec of batches as that of some of their images."""
    return replace(spec, shape=(None, *spec.shape[1:])) if spec.batched else spec


def _turn_of_image(alternatives: Sequence[Alternative], image: Any, chosen: Any, params: dict[str, Any]) -> Any:
    branches = [lambda apply=apply: apply(image, params) for apply in alternatives]
    if len(branches) == 1:
        return tf.cond(chosen >= 0, branches[0], lambda: image)
    return tf.switch_case(tf.cast(chosen, tf.int32), branches, default=lambda: image)


def _turn_of_batch(alternatives: Sequence[Alternative], images: Any, chosen: Any, params: dict[str, Any]) -> Any:
    for number, apply in enumerate(alternatives):
        images = _changed(apply, images, tf.where(chosen == number), params)
    return images


def _changed(apply: Alternative, images: Any, rows: Any, params: dict[str, Any]) -> Any:
    """A batch whose given rows have gone through an alternative; where there are none, it isn't run."""

    def changed() -> Any:
        own = {name: tf.gather_nd(values, rows) for name, values in params.items()}
        return tf.tensor_scatter_nd_update(images, rows, apply(tf.gather_nd(images, rows), own))

    return tf.cond(tf.size(rows) > 0, changed, lambda: images)


def rows(lowering_of: LoweringOf) -> tuple[TableRow, ...]:
    """The rows of choices and of weighted sums, whose parts are done as ``lowering_of`` says."""
    return (
        TableRow(p.Choice, functools.partial(choice, lowering_of), DTYPES),
        TableRow(p.WeightedSum, functools.partial(weighted_sum, lowering_of), ("uint8",), condition=_single),
    )


def _single(primitive: Any, spec: ImageSpec) -> bool:
    return not spec.batched
