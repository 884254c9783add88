"""Finished runs to read digits with: a good one where the real MNIST is to be had, a small one anywhere."""

import os
from pathlib import Path

import pytest

from mnist_lit.training.run import train
from tests.conftest import TINY, compose_config


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    train(compose_config(*TINY, "callbacks=none"), folder, {})
    return folder


@pytest.fixture(scope="session")
def good_run(tmp_path_factory: pytest.TempPathFactory, mnist_root: str) -> Path:
    """One epoch on the real MNIST."""
    folder = tmp_path_factory.mktemp("good")
    quick = ["experiment=speedrun", "trainer=cpu", "callbacks=none", f"data.root={mnist_root}"]
    train(compose_config(*quick), folder, {})
    return folder


@pytest.fixture
def small_copy(small_run: Path, tmp_path: Path) -> Path:
    """A run's folder that may be written to."""
    copy = tmp_path / "run"
    for path in ("config.yaml", "result.json", "checkpoints/best.ckpt"):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        os.link(small_run / path, copy / path)
    return copy
