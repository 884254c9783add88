"""Verified files → uint8 tensors, split into train, validation and test."""

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_lit.data.files import FileSet, count_images
from mnist_lit.data.idx import read_idx_file
from mnist_lit.errors import UserError

DIGITS_TEST_SIZE = 360  # of scikit-learn's 1,797; it has no official test set


@dataclass(frozen=True)
class Split:
    """Images [n, 1, 28, 28] uint8, 0 is background, and labels [n] int64, 0 to 9."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> "Split":
        return Split(self.images.index_select(0, index), self.labels.index_select(0, index))  # 5 × as fast as []

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Splits:
    """`checksums`: file → MD5 of what the splits were read from. They are recorded with the run."""

    train: Split
    val: Split
    test: Split
    checksums: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raises UserError if a split is empty, or if its images or labels have another shape, type or range."""
        for name, split in (("train", self.train), ("val", self.val), ("test", self.test)):
            images, labels = split.images, split.labels
            if tuple(images.shape[1:]) != (1, 28, 28) or images.dtype != torch.uint8:
                raise UserError(
                    f"{name} images are {list(images.shape)} {images.dtype}; should be [n, 1, 28, 28] uint8"
                )
            if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
                raise UserError(
                    f"{name} labels are {list(labels.shape)} {labels.dtype}; should be [{len(images)}] int64"
                )
            if len(labels) == 0:
                raise UserError(f"there are no {name} images")
            if labels.min() < 0 or labels.max() > 9:
                raise UserError(f"{name} labels are {labels.min()} to {labels.max()}; should be 0 to 9")


def load_idx(files: FileSet, val_size: int, split_seed: int) -> Splits:
    """The official training images split into train and validation, the official test images as test.

    Expects the files that `ensure_files` has verified.

    Raises:
        UserError: if the files do not fit each other.
    """
    count_images(files)  # raises UserError

    def read(part: str) -> Split:
        images = read_idx_file(files.file(f"{part}_images"), is_images=True)
        labels = read_idx_file(files.file(f"{part}_labels"), is_images=False)
        return Split(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels).long())

    official = read("train")
    train, val = stratified_split(official.labels, val_size, split_seed)
    checksums = {file.name: file.md5 or file.archive_md5 or "not known" for file in files.files.values()}
    return Splits(official[train], official[val], read("test"), checksums)


def load_digits(val_size: int, split_seed: int) -> Splits:
    """scikit-learn's 1,797 digits (8 × 8, 17 gray levels), enlarged as in MNIST: 20 × 20 in the middle of 28 × 28."""
    from sklearn.datasets import load_digits as load_embedded

    raw = load_embedded()
    small = torch.from_numpy(raw.images).float().unsqueeze(1) * (255 / 16)
    large = F.interpolate(small, size=(20, 20), mode="bilinear", align_corners=False)
    images = F.pad(large, (4, 4, 4, 4)).round().to(torch.uint8)
    everything = Split(images, torch.from_numpy(raw.target).long())

    rest_index, test = stratified_split(everything.labels, DIGITS_TEST_SIZE, seed=0)  # always the same test set
    rest = everything[rest_index]
    train, val = stratified_split(rest.labels, val_size, split_seed)
    checksum = hashlib.md5(raw.images.tobytes(), usedforsecurity=False).hexdigest()
    return Splits(rest[train], rest[val], everything[test], {"sklearn.datasets.load_digits": checksum})


def stratified_split(labels: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (rest, chosen), both ascending. `chosen` are `size` random samples in the proportions of the classes."""
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


def add_label_noise(split: Split, fraction: float, seed: int) -> Split:
    """The same images. A random part of them has one of the nine wrong labels."""
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.randperm(len(split), generator=generator)[: round(fraction * len(split))]
    labels = split.labels.clone()
    labels[noisy] = (labels[noisy] + torch.randint(1, 10, (len(noisy),), generator=generator)) % 10
    return Split(split.images, labels)
