"""Fixtures that every test can use."""

from __future__ import annotations

import gc
import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

from greenload.sources.samples import make_samples

pytest_plugins = ("report_fixtures",)
settings.register_profile(  # the same examples everywhere, on a busy machine too
    "suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")  # others with pytest --hypothesis-profile=default
os.environ["GREENLOAD_STATUS"] = "off"  # no thread tells what tests watch, but where a test wants it
os.environ.pop("COLUMNS", None)  # pytest-xdist gives its workers a width; what they print goes to no terminal
# Importing the tests makes objects that stay until the end. Python's collector would look through all of them again and
# again, for a tenth of the suite's time: it is off while they are made, and leaves them out afterwards.
gc.disable()
SAMPLE_IMAGES = 48
SAMPLE_CLASSES = 4


def pytest_collection_finish() -> None:
    """Collect garbage again, but only what is made from here on."""
    gc.freeze()
    gc.set_threshold(10_000)  # building TensorFlow's graphs makes thousands of objects a second, few of them garbage
    gc.enable()


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 sample photographs in 4 class folders. Shared: to change files, copy it first."""
    if importlib.util.find_spec("sklearn") is None:
        pytest.skip("scikit-learn is not installed, whose photographs the samples are cut from")
    folder = tmp_path_factory.mktemp("sample")
    make_samples(folder, images=SAMPLE_IMAGES, classes=SAMPLE_CLASSES)
    return folder


@pytest.fixture(scope="session")
def bad_images() -> ModuleType:
    """The module tests/support/bad_images.py: `bad_images.make_all(folder)`, `bad_images.jpeg()` and lists of names."""
    if importlib.util.find_spec("PIL") is None:
        pytest.skip("Pillow-SIMD is not installed, which writes the unusual images")
    import bad_images

    return bad_images
