"""stub until branch kernel is merged"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

from greenload.backends.base import Availability


@functools.cache
def load() -> Any:
    if os.environ.get("FAKE"):
        sys.path.append("/tmp/native")
        import fakelib

        return fakelib.Fake()
    raise OSError("not built")


def availability() -> Availability:
    if os.environ.get("FAKE"):
        return Availability("native", True, "fake")
    return Availability("native", False, "not built", "make setup")
