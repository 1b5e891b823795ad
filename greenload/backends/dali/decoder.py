"""Decodes single files with DALI on the CPU, for backends that don't read them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.dali.base import Target
from greenload.backends.dali.graph import feed, image_list, make_graph
from greenload.backends.dali.runner import brief, lacking
from greenload.plans.steps import Step
from greenload.sources.formats import FormatError
from greenload.specs import ENCODED_SPEC, HWC, ImageSpec
from greenload.stages import primitives as p

_DECODED_SPEC = ImageSpec((None, None, 3), "uint8", HWC)
_DECODE_FULLY = Step("pixels", "Decode", ("Decode",), "dali-cpu", ENCODED_SPEC, _DECODED_SPEC, p.Decode())


class DaliDecoder:
    """Decodes single files, each wholly, with as many graphs as there are threads that do so at a time."""

    def __init__(self) -> None:
        self._graphs = [_decoding_graph()]

    def pixels(self, data: bytes, kind: str) -> NDArray[np.uint8]:
        """A file's pixels, uint8 ``[H, W, 3]``.

        Raises:
            FormatError: DALI can't decode it wholly.
            MemoryError: there is too little memory to tell.
        """
        try:
            graph = self._graphs.pop()
        except IndexError:
            graph = _decoding_graph()
        try:
            feed(graph, image_list([data]), {})
            decoded = np.array(graph.run()[0][0])  # a copy: its memory is the graph's
        except RuntimeError as error:  # DALI calls a graph invalid after one
            if why := lacking(error):
                raise MemoryError(why) from None
            raise FormatError(f"can't be decoded: {brief(error)}") from None
        self._graphs.append(graph)
        return decoded

    def close(self) -> None:
        """Give back graphs. Calling it twice is harmless."""
        self._graphs.clear()


def _decoding_graph() -> Any:
    """A graph that decodes one file a run, wholly, on the CPU."""
    return make_graph([_DECODE_FULLY], ENCODED_SPEC, batch_size=1, threads=1, target=Target())
