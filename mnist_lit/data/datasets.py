"""Verified files → uint8 tensors, split into train, validation and test."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_lit.data.files import FILES, raw_folder

DIGITS_TEST_SIZE = 360  # of scikit-learn's 1,797; it has no official test set


@dataclass(frozen=True)
class Part:
    """Images as bytes, [n, 1, 28, 28] uint8 (0 = background), and their labels, [n] int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> "Part":
        return Part(self.images.index_select(0, index), self.labels.index_select(0, index))  # five times as fast as []

    def to(self, device: torch.device) -> "Part":
        return Part(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Splits:
    """`checksums` name the bytes the parts were read from: file → MD5."""

    train: Part
    val: Part
    test: Part
    checksums: dict[str, str]


def load_mnist(root: str | Path, val_size: int, split_seed: int) -> Splits:
    """The official 60,000 split into train and validation, the official 10,000 as test.

    Expects the files that `ensure_mnist` has verified.
    """
    folder = raw_folder(root)

    def read(stem: str) -> Part:
        pixels = np.fromfile(folder / f"{stem}-images-idx3-ubyte", dtype=np.uint8)[16:]  # after the IDX header
        labels = np.fromfile(folder / f"{stem}-labels-idx1-ubyte", dtype=np.uint8)[8:]
        return Part(torch.from_numpy(pixels).view(-1, 1, 28, 28), torch.from_numpy(labels).long())

    official = read("train")
    train, val = stratified_split(official.labels, val_size, split_seed)
    return Splits(official[train], official[val], read("t10k"), {file.name: file.md5 for file in FILES})


def load_digits(val_size: int, split_seed: int) -> Splits:
    """scikit-learn's 1,797 digits (8 × 8, 17 grey levels), drawn as MNIST draws: 20 × 20 in the middle of 28 × 28."""
    from sklearn.datasets import load_digits as load_embedded

    raw = load_embedded()
    small = torch.from_numpy(raw.images).float().unsqueeze(1) * (255 / 16)
    large = F.interpolate(small, size=(20, 20), mode="bilinear", align_corners=False)
    images = F.pad(large, (4, 4, 4, 4)).round().to(torch.uint8)
    everything = Part(images, torch.from_numpy(raw.target).long())

    rest_index, test = stratified_split(everything.labels, DIGITS_TEST_SIZE, seed=0)  # one test set for all
    rest = everything[rest_index]
    train, val = stratified_split(rest.labels, val_size, split_seed)
    return Splits(rest[train], rest[val], everything[test], {"sklearn.datasets.load_digits": _md5(raw.images)})


def stratified_split(labels: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (rest, chosen), both ascending: `chosen` are `size` random samples in the classes' own proportions."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.bincount(labels)
    exact = counts.double() * size / len(labels)
    quota = exact.floor().long()
    largest_remainders = (exact - quota).argsort(descending=True, stable=True)
    quota[largest_remainders[: size - int(quota.sum())]] += 1

    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for digit, number in enumerate(quota.tolist()):
        members = (labels == digit).nonzero().squeeze(1)
        chosen[members[torch.randperm(len(members), generator=generator)[:number]]] = True
    return (~chosen).nonzero().squeeze(1), chosen.nonzero().squeeze(1)


def _md5(array: np.ndarray) -> str:
    import hashlib

    return hashlib.md5(np.ascontiguousarray(array).tobytes(), usedforsecurity=False).hexdigest()
