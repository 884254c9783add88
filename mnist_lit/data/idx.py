"""MNIST's file format, IDX: a magic number, the sizes as big-endian 32-bit numbers, then one byte a value."""

from pathlib import Path

import numpy as np

from mnist_lit.errors import UserError

IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
SIDE, CLASSES = 28, 10


def check_idx_file(path: Path, *, is_images: bool) -> int:
    """The number of images or labels in a file.

    Raises:
        UserError: if it is not in IDX format, if it is empty, if its size does not fit its header, if its images are
            not 28 × 28, or if a label is above 9.
    """
    magic, shape = (IMAGES_MAGIC, 3) if is_images else (LABELS_MAGIC, 1)
    try:
        with path.open("rb") as stream:
            start = stream.read(4 * (1 + shape))
            header = np.frombuffer(start[: len(start) // 4 * 4], dtype=">u4")
            size = path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(header) < 1 + shape or header[0] != magic:
        found = int(header[0]) if len(header) else "none"
        raise UserError(f"{path}: its magic number is {found}; IDX {'images' if is_images else 'labels'} have {magic}")
    count = int(header[1])
    if is_images and tuple(header[2:]) != (SIDE, SIDE):
        raise UserError(f"{path}: its images are {header[2]} × {header[3]}; should be {SIDE} × {SIDE}")
    expected = 4 * (1 + shape) + count * (SIDE * SIDE if is_images else 1)
    if size != expected:
        raise UserError(f"{path}: its header says {count:,} entries, so {expected:,} bytes; it has {size:,}")
    if count == 0:
        raise UserError(f"{path}: has no {'images' if is_images else 'labels'}")
    if not is_images and (highest := read_idx_file(path, is_images=False).max()) >= CLASSES:
        raise UserError(f"{path}: has the label {highest}; labels should be 0 to {CLASSES - 1}")
    return count


def read_idx_file(path: Path, *, is_images: bool) -> np.ndarray:
    """Images [n, 28, 28] or labels [n], both uint8, of a file that `check_idx_file` accepts."""
    values = np.fromfile(path, dtype=np.uint8, offset=16 if is_images else 8)
    return values.reshape(-1, SIDE, SIDE) if is_images else values
