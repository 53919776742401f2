"""The glyphs are drawn once for all tests of this folder that train in this process: that takes most of a second."""

import functools
from collections.abc import Iterator

import pytest

from mlpx.experiments.mlp import images


@pytest.fixture(scope="session", autouse=True)
def _glyphs_are_drawn_once() -> Iterator[None]:
    load = images.load
    load_once = functools.cache(load)

    def load_glyphs_once(dataset: str, data_dir: str) -> tuple[images.Examples, images.Examples]:
        return load_once(dataset, data_dir) if dataset == "glyphs" else load(dataset, data_dir)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "load", load_glyphs_once)
        yield
