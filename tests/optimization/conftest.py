"""Photographs that searches run on."""

from pathlib import Path

import pytest

import greenload as gl
from greenload.sources.samples import make_samples


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 48 sample photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    make_samples(folder / "train", 48)
    return folder / "train"


@pytest.fixture(scope="session")
def train(photographs: Path) -> gl.Pipeline:
    """A training pipeline of them."""
    return gl.Pipeline(
        gl.ImageFolder(photographs),
        gl.Shuffle(),
        gl.Decode(),
        gl.RandomResizedCrop(64),
        gl.RandomHorizontalFlip(),
        gl.Batch(16),
        seed=5,
    )
