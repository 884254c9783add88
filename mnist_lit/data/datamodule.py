"""LightningDataModules: data sets in MNIST's file format, and the digits that come with scikit-learn."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from math import ceil
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from mnist_lit import DIGITS, private_apis
from mnist_lit.config.checks import batch_problems
from mnist_lit.config.schema import count_batches
from mnist_lit.data.augment import Augment
from mnist_lit.data.datasets import Split, Splits, add_label_noise, load_digits, load_idx, stratified_split
from mnist_lit.data.files import FileSet, ensure_files
from mnist_lit.data.loader import BatchLoader, EvalLoader, Normalize, RankShard, TrainLoader
from mnist_lit.errors import UserError

# Callbacks that change how Lightning makes its steps.
STEP_CALLBACKS = (GradientAccumulationScheduler, StochasticWeightAveraging)


# Methods that decide what a training batch is. A block is another one.
BATCH_METHODS = ("train_dataloader", "on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class DigitDataModule(LightningDataModule, ABC):
    """Ten classes of 28 × 28 images, in three splits that live on the trainer's device as bytes. A subclass implements
    `load`.

    `classes` are the names of the ten classes. `mean` and `std` normalize pixels in [0, 1]. `augment` holds the
    arguments of `Augment`. `batch_size` is per device. `seed` decides the order and the augmentation of the samples,
    `split_seed` which of them are for validation. `train_size` images are for training, in the proportions of the
    classes; None means all that are not for validation. `label_noise` is the part of them that gets a wrong label.

    A run sets two more attributes: `accumulate_grad_batches`, the number of batches of an optimizer step, and `limits`,
    which maps `train`, `val` and `test` to the number of batches that it uses, or to the part of them (a float)."""

    def __init__(
        self,
        *,
        name: str,
        val_size: int,
        mean: float,
        std: float,
        train_size: int | None = None,
        label_noise: float = 0.0,
        classes: Sequence[str] = DIGITS,
        augment: dict[str, float] | None = None,
        batch_size: int = 64,
        devices: int = 1,
        split_seed: int = 0,
        seed: int = 0,
        steps_per_execution: int = 1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)  # Lightning refuses to log a name that the network has, too
        self.name = name
        self.classes = tuple(classes)
        self.devices = devices
        self.batch_size = batch_size * devices
        self.val_size = val_size
        self.train_size = train_size
        self.label_noise = label_noise
        self.split_seed = split_seed
        self.normalize = Normalize(mean, std)
        self.seed = seed
        self.augment = Augment(**augment) if augment else None
        self.steps_per_execution = steps_per_execution
        self.accumulate_grad_batches = 1
        self.limits: dict[str, int | float] = {}  # a number of batches, or a part of them
        self.loaded: Splits | None = None  # what `load` returned

    @abstractmethod
    def load(self) -> Splits:
        """Read the images. Called once; `val_size` and `split_seed` say how to split them."""

    @cached_property
    def splits(self) -> Splits:
        """The training set has `train_size` images, validation and test set are cut to their limits."""
        splits = self.loaded or self.load()
        if not isinstance(splits, Splits):
            raise UserError(f"load() returned {type(splits).__name__}; should be Splits")
        splits.check()
        self.loaded = splits
        splits = replace(splits, train=self._prepared(splits.train))
        sizes = {"train": len(splits.train), "val": len(splits.val), "test": len(splits.test)}
        if problems := [*batch_problems(sizes, self.batch_size, self.limits, self.accumulate_grad_batches)]:
            raise UserError("\n".join(problems))
        val, test = self._limited(splits.val, "val"), self._limited(splits.test, "test")
        return replace(splits, val=val, test=test)

    @property
    def batches_per_epoch(self) -> int:
        return count_batches(len(self.splits.train), self.batch_size, self.limits.get("train", 1.0))

    @property
    def steps_per_epoch(self) -> int:
        """The optimizer steps of an epoch."""
        return ceil(self.batches_per_epoch / self.accumulate_grad_batches)

    @property
    def samples_per_epoch(self) -> int:
        return min(len(self.splits.train), self.batches_per_epoch * self.batch_size)

    def check_sizes(self) -> None:
        """Raises UserError if the batches do not fit the training set."""
        size, devices = len(self.splits.train), self.devices
        batch_size = self.batch_size // devices
        if batch_size > size:
            raise UserError(f"data.batch_size={batch_size}: should be at most {size}, the number of training images")
        last = size % self.batch_size
        if 0 < last < devices:
            raise UserError(
                f"data.batch_size={batch_size}: leaves {last} samples for the last batch of an epoch, too few for "
                f"trainer.devices={devices}; choose another size"
            )

    def state_dict(self) -> dict[str, int]:
        """The position in an epoch counts blocks, so a resumed run needs blocks of the same length."""
        return {"steps_per_execution": self.steps_per_execution}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.steps_per_execution = state_dict["steps_per_execution"]

    def train_dataloader(self) -> TrainLoader:
        """Blocks of `steps_per_execution` batches; plain batches where Lightning has to make the steps itself."""
        blocks = self.trainer is not None and self.trainer.training and gives_blocks(self.trainer)
        loader = (TrainLoader if blocks else BatchLoader)(
            self._on_device(self.splits.train),
            self.normalize,
            batch_size=self.batch_size,
            steps_per_execution=self.steps_per_execution if blocks else 1,
            seed=self.seed,
            augment=self.augment,
            shard=RankShard(self.trainer.global_rank, self.trainer.world_size) if self.trainer else RankShard(),
            accumulate=self.accumulate_grad_batches if blocks else 1,
            limit=self.batches_per_epoch,
        )
        if self.trainer and self.trainer.overfit_batches:  # type: ignore[attr-defined]
            loader.sampler = None  # Lightning chooses no epoch then: all have the same batches
        return loader

    @property
    def makes_blocks(self) -> bool:
        """False for a class with one of `BATCH_METHODS` of its own."""
        return not own_batch_methods(self)

    def val_dataloader(self) -> EvalLoader:
        return EvalLoader(self._on_device(self.splits.val), self.normalize)

    def test_dataloader(self) -> EvalLoader:
        return EvalLoader(self._on_device(self.splits.test), self.normalize)

    def predict_dataloader(self) -> EvalLoader:
        return self.test_dataloader()

    def _prepared(self, train: Split) -> Split:
        if self.train_size is not None:
            if self.train_size > len(train):
                raise UserError(f"data.train_size={self.train_size}: should be at most {len(train)}")
            train = train[stratified_split(train.labels, self.train_size, self.split_seed)[1]]
        return add_label_noise(train, self.label_noise, self.split_seed) if self.label_noise else train

    def _limited(self, split: Split, name: str) -> Split:
        size = self.batch_size * count_batches(len(split), self.batch_size, self.limits.get(name, 1.0))
        return Split(split.images[:size], split.labels[:size])

    def _on_device(self, split: Split) -> Split:
        return split.to(self.trainer.strategy.root_device if self.trainer else torch.device("cpu"))


def own_batch_methods(data: DigitDataModule) -> list[str]:
    return [name for name in BATCH_METHODS if getattr(type(data), name) is not getattr(DigitDataModule, name)]


def gives_blocks(trainer: Trainer | None) -> bool:
    """Whether the trainer gets blocks: it fits a network of this project with a data module of this project, and has
    nothing that needs Lightning's own steps. Such things are accumulated or clipped gradients (a clipping of the
    network's own if the loss is scaled, as in 16-mixed), weights that are not float32, and strategies that change the
    network, as FSDP does."""
    data = getattr(trainer, "datamodule", None)
    if trainer is None or not isinstance(data, DigitDataModule) or not private_apis.fits_data_module(trainer):
        return False
    return (
        getattr(trainer.lightning_module, "takes_blocks", False)
        and data.makes_blocks
        and isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy)
        and trainer.accumulate_grad_batches == 1
        and trainer.gradient_clip_val is None
        and trainer.precision in ("32-true", "16-mixed", "bf16-mixed")
        and not (trainer.precision == "16-mixed" and trainer.lightning_module.gradient_clip_val is not None)
        and not any(isinstance(it, STEP_CALLBACKS) for it in trainer.callbacks)  # type: ignore[attr-defined]
    )


class MNISTDataModule(DigitDataModule):
    """A data set in MNIST's file format, by default MNIST itself.

    The files are below `root` in `folder`, as torchvision has them. What is missing or damaged is downloaded from
    `mirrors`; None means torchvision's mirrors for MNIST and none for others. `files` names the four files:
    train_images, train_labels, test_images, test_labels, each with `name` and, where they are known, `archive_md5` and
    `md5`; None means MNIST's own."""

    def __init__(
        self,
        *,
        root: str = "data",
        folder: str = "MNIST/raw",
        mirrors: Sequence[str] | None = None,
        files: dict[str, dict[str, str | None]] | None = None,
        name: str = "mnist",
        val_size: int = 5000,
        mean: float = 0.1307,
        std: float = 0.3081,
        **common: Any,
    ) -> None:
        super().__init__(name=name, val_size=val_size, mean=mean, std=std, **common)
        options = {"name": name, "root": root, "folder": folder, "mirrors": mirrors, "files": files}
        self.file_set = FileSet.from_options(options)

    def prepare_data(self) -> None:
        ensure_files(self.file_set)

    def load(self) -> Splits:
        return load_idx(self.file_set, self.val_size, self.split_seed)


class SklearnDigitsDataModule(DigitDataModule):
    """scikit-learn's 1,797 digits at 28 × 28: no files, no network."""

    def __init__(
        self,
        *,
        name: str = "digits",
        val_size: int = 180,
        mean: float = 0.1561,
        std: float = 0.2777,
        **common: Any,
    ) -> None:
        super().__init__(name=name, val_size=val_size, mean=mean, std=std, **common)

    def load(self) -> Splits:
        return load_digits(self.val_size, self.split_seed)
