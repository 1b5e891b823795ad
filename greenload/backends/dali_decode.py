"""Decoding in DALI."""

from __future__ import annotations

from collections.abc import Mapping

from greenload.backends.dali_base import Node, Target
from greenload.specs import ImageSpec
from greenload.stages import primitives as p


def decode(primitive: p.Decode, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    from nvidia.dali import fn

    return fn.decoders.image(image, **target.decoding())


def decode_crop(primitive: p.DecodeCrop, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    from nvidia.dali import fn

    return fn.decoders.image_slice(image, start=fed["start"], shape=fed["shape"], axes=(0, 1), **target.decoding())
