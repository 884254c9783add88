"""LightningDataModules: MNIST, and the digits that ship with scikit-learn."""

from abc import ABC, abstractmethod
from math import ceil
from typing import Any

import torch
from lightning.pytorch import LightningDataModule

from mnist_lit.data.augment import Augment
from mnist_lit.data.datasets import Part, Splits, load_digits, load_mnist
from mnist_lit.data.files import ensure_mnist
from mnist_lit.data.loader import EvalLoader, Normalize, Share, TrainLoader


class DigitDataModule(LightningDataModule, ABC):
    """What both data sets share: three parts that live on the trainer's device as bytes.

    `augment` holds the arguments of `Augment`. `batch_size` is per device. `seed` decides the order of the samples and
    how they are augmented, `split_seed` which of them are for validation.
    """

    name: str

    def __init__(
        self,
        *,
        val_size: int,
        mean: float,
        std: float,
        augment: dict[str, float] | None = None,
        batch_size: int = 64,
        devices: int = 1,
        split_seed: int = 0,
        seed: int = 0,
        steps_per_execution: int = 1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.batch_size = batch_size * devices
        self.val_size = val_size
        self.split_seed = split_seed
        self.normalize = Normalize(mean, std)
        self.seed = seed
        self.augment = Augment(**augment) if augment else None
        self.steps_per_execution = steps_per_execution
        self._splits: Splits | None = None

    @abstractmethod
    def load(self) -> Splits: ...

    @property
    def splits(self) -> Splits:
        if self._splits is None:
            self._splits = self.load()
        return self._splits

    @property
    def steps_per_epoch(self) -> int:
        return ceil(len(self.splits.train) / self.batch_size)

    def state_dict(self) -> dict[str, int]:
        """The position in an epoch is counted in blocks, so a resumed run needs blocks of the same length."""
        return {"steps_per_execution": self.steps_per_execution}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.steps_per_execution = state_dict["steps_per_execution"]

    def train_dataloader(self) -> TrainLoader:
        return TrainLoader(
            self._on_device(self.splits.train),
            self.normalize,
            batch_size=self.batch_size,
            steps_per_execution=self.steps_per_execution,
            seed=self.seed,
            augment=self.augment,
            share=Share(self.trainer.global_rank, self.trainer.world_size) if self.trainer else Share(),
        )

    def val_dataloader(self) -> EvalLoader:
        return EvalLoader(self._on_device(self.splits.val), self.normalize)

    def test_dataloader(self) -> EvalLoader:
        return EvalLoader(self._on_device(self.splits.test), self.normalize)

    def _on_device(self, part: Part) -> Part:
        return part.to(self.trainer.strategy.root_device if self.trainer else torch.device("cpu"))


class MNISTDataModule(DigitDataModule):
    """MNIST below `root`, downloaded from `mirrors` (None: torchvision's) where it is missing or damaged."""

    name = "mnist"

    def __init__(
        self,
        *,
        root: str = "data",
        mirrors: list[str] | None = None,
        val_size: int = 5000,
        mean: float = 0.1307,
        std: float = 0.3081,
        **common: Any,
    ) -> None:
        super().__init__(val_size=val_size, mean=mean, std=std, **common)
        self.root = root
        self.mirrors = mirrors

    def prepare_data(self) -> None:
        ensure_mnist(self.root, self.mirrors)

    def load(self) -> Splits:
        return load_mnist(self.root, self.val_size, self.split_seed)


class SklearnDigitsDataModule(DigitDataModule):
    """scikit-learn's 1,797 digits at 28 × 28: no files, no network."""

    name = "digits"

    def __init__(self, *, val_size: int = 180, mean: float = 0.1561, std: float = 0.2777, **common: Any) -> None:
        super().__init__(val_size=val_size, mean=mean, std=std, **common)

    def load(self) -> Splits:
        return load_digits(self.val_size, self.split_seed)
