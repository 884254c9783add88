"""Finished runs: a good one on the real MNIST, and a small one that needs no files."""

import os
from pathlib import Path

import pytest
import torch

from mnist_lit.training.run import train
from tests.configs import compose_config
from tests.conftest import TINY

CLOTHES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


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
    """A run's folder that a test may write to."""
    copy = tmp_path / "run"
    for path in ("config.yaml", "result.json", "checkpoints/best.ckpt"):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        os.link(small_run / path, copy / path)
    return copy


@pytest.fixture
def clothes_run(small_copy: Path) -> Path:
    """A run whose checkpoint is of a network trained on Fashion-MNIST."""
    path = small_copy / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["datamodule_hyper_parameters"] |= {"name": "fashion_mnist", "classes": CLOTHES}
    path.unlink()  # it is a hard link to the other run's file
    torch.save(checkpoint, path)
    return small_copy
