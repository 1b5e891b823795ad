"""The ready pipelines, each by its name, on the kind of data that its docstring asks for."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest
import record_files

import greenload as gl
from greenload.cli.resolve import find_pipeline, ready
from greenload.loading.pack import pack

SHAPES = {
    "cifar10:train": (32, 32, "uint8"),
    "cifar10:evaluate": (32, 32, "uint8"),
    "imagenet:train": (224, 224, "uint8"),
    "imagenet:evaluate": (224, 224, "uint8"),
    "resize_flip:train": (224, 224, "float32"),
    "resize_flip:evaluate": (224, 224, "float32"),
    "tfrecords:train": (224, 224, "uint8"),
    "tfrecords:evaluate": (224, 224, "uint8"),
    **{
        f"strategies:{name}": (224, 224, "uint8")
        for name in ("standard", "randaugment", "trivial", "autoaugment", "augmix", "three_augment", "mixes")
    },
}
"""Height, width and dtype of what each gives."""
IN_RECORDS = [name for name in SHAPES if not name.startswith(("cifar10", "strategies"))]


@pytest.fixture(scope="module")
def packed(sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "photos"
    pack(gl.ImageFolder(sample_folder), folder)
    return folder


@pytest.fixture(scope="module")
def small_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tfds")
    return record_files.tfds_folder(root, record_files.photos(20, side=32), "tfrecord") / "tiny"


def data_for(name: str, request: pytest.FixtureRequest) -> str:
    kind = {"cifar10": "small_images", "tfrecords": "packed"}.get(name.split(":")[0], "sample_folder")
    return str(request.getfixturevalue(kind))


def test_every_ready_pipeline_is_known_here_and_explained() -> None:
    assert sorted(ready()) == sorted(SHAPES)
    for name in SHAPES:
        module = importlib.import_module(f"greenload.pipelines.{name.split(':')[0]}")
        assert f"greenload profile {name} --data" in (module.__doc__ or "")
        function = getattr(module, name.split(":")[1])
        assert all(f"{parameter}:" in function.__doc__ for parameter in inspect.signature(function).parameters)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_it_gives_what_it_says(name: str, request: pytest.FixtureRequest) -> None:
    pipeline = find_pipeline(name, data_for(name, request))
    assert isinstance(pipeline, gl.Pipeline)
    assert pipeline.shuffled == (name.startswith("strategies") or name.endswith("train"))
    count = 0
    for images, labels in gl.load(pipeline, epochs=1).as_numpy_iterator():
        assert (*images.shape[1:], str(images.dtype)) == (*SHAPES[name][:2], 3, SHAPES[name][2])
        assert len(labels) == len(images)
        assert images.std() > 0.05
        count += len(images)
    assert count == len(pipeline.source)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in IN_RECORDS if name.endswith("evaluate")])
def test_a_packed_set_gives_the_same_images_as_its_folder(name: str, sample_folder: Path, packed: Path) -> None:
    def images(folder: Path) -> list[tuple[bytes, int]]:
        loaded = gl.load(find_pipeline(name, str(folder)), epochs=1).unbatch().as_numpy_iterator()
        return sorted((np.asarray(image).tobytes(), int(label)) for image, label in loaded)

    assert images(packed) == images(sample_folder)
