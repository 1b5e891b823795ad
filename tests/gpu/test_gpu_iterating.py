"""Batches from a GPU for NumPy, JAX and PyTorch: on the device, without a copy, each the consumer's to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dali_cases import photo, png

import greenload as gl
from greenload.loading import iterate

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True, scope="module")
def _gpu() -> None:
    from greenload.backends import registry

    found = registry.get("dali").availability()
    if not found.usable:
        pytest.skip(f"{found.detail}; {found.remedy}")


@pytest.fixture
def pipeline(tmp_path: Path) -> gl.Pipeline:
    paths = [tmp_path / f"{i}.png" for i in range(14)]
    for i, path in enumerate(paths):
        path.write_bytes(png(photo(60 + i, 70 - i, i)))
    stages = (gl.Shuffle(), gl.Decode(), gl.RandomResizedCrop(32), gl.RandomHorizontalFlip(), gl.Batch(4))
    return gl.Pipeline(gl.Files(paths, np.arange(14)), *stages, seed=5)


def test_numpy_gets_it_on_the_host(pipeline: gl.Pipeline) -> None:
    got = list(gl.iterate(pipeline, backend="dali", epochs=2))
    expected = list(gl.iterate(pipeline, backend="dali-cpu", epochs=2))
    assert [len(labels) for _, labels in got] == [4, 4, 4, 2] * 2
    for (images, labels), (reference, marks) in zip(got, expected, strict=True):
        assert isinstance(images, np.ndarray) and (labels == marks).all()
        assert np.abs(images.astype(int) - reference)[:, 1:-1, 1:-1].max() <= 2  # each within a level of the reference


@pytest.mark.parametrize("to", ["jax", "torch"])
def test_a_framework_gets_it_where_it_is(pipeline: gl.Pipeline, monkeypatch: pytest.MonkeyPatch, to: Any) -> None:
    framework = pytest.importorskip(to)
    if to == "torch" and not framework.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    if to == "jax" and framework.default_backend() != "gpu":
        pytest.skip("this JAX has no CUDA")
    pointers: list[int] = []
    converted = iterate.converted

    def spy(images: Any, labels: Any, to: Any) -> Any:
        pointers.append(images.as_tensor().data_ptr())
        return converted(images, labels, to)

    expected = list(gl.iterate(pipeline, backend="dali", epochs=3))
    monkeypatch.setattr(iterate, "converted", spy)
    got = list(gl.iterate(pipeline, to, backend="dali", epochs=3))  # all held: none may be written to again
    found = [images.data_ptr() if to == "torch" else images.unsafe_buffer_pointer() for images, _ in got]
    assert found == pointers
    assert all("cpu" not in str(part.device).lower() for batch in got for part in batch)
    for (images, labels), (reference, marks) in zip(got, expected, strict=True):
        host = [part.cpu().numpy() if to == "torch" else np.asarray(part) for part in (images, labels)]
        assert (host[0] == reference).all() and (host[1] == marks).all()
