"""`python -m benchmarks.own_digits RUN [RUN …]`: pictures in many styles, read by finished runs → docs/own-digits.md.

The pictures are made anew from strokes and validation digits that no network was trained on, the same for every run.
Beside the project's preparation the usual one is measured: grey, resize to 28 × 28, invert.
"""

import argparse
import io
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.own_styles import STYLES, Digit
from benchmarks.product import PROJECT, config_of
from mnist_lit.config import MNISTData
from mnist_lit.data.datasets import Part, load_mnist
from mnist_lit.data.files import ensure_mnist
from mnist_lit.digits.checkpoint import CheckpointNetwork
from mnist_lit.digits.labelled import evaluate_pictures
from mnist_lit.digits.networks import Network
from mnist_lit.digits.picture import BadPicture
from mnist_lit.digits.prepare import digits_of, prepare_one
from mnist_lit.digits.read import read_pictures

MARK = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)
FRESH = 1  # the preparation was tuned on other pictures
PENS = {"thin", "hairline", "thick", "fat", "slanted", "icon", "faint icon"}  # of which a copied digit shows nothing


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.own_digits", description=__doc__.splitlines()[0])
    options.add_argument("runs", nargs="+", type=Path)
    options.add_argument("--count", type=int, default=100, help="pictures a style")
    options.add_argument("--pictures", type=Path, help="a labelled folder of your own, to be read as well")
    options.add_argument("--no-docs", action="store_true", help="print only")
    chosen = options.parse_args()

    names, networks = [run.name for run in chosen.runs], [CheckpointNetwork(run) for run in chosen.runs]
    val = mnist_validation()
    labels = np.arange(chosen.count) % 10
    written = {style: measured(style, labels, list(labels), networks) for style in STYLES}
    copies = list(val.images[: chosen.count, 0].numpy())
    copied = {
        style: measured(style, val.labels[: chosen.count].numpy(), copies, networks) for style in STYLES.keys() - PENS
    }
    lines = [
        f"Digits written by a program with a pen of its own, {chosen.count} pictures a style:",
        *table(written, names),
        f"The first {chosen.count} of MNIST's validation digits, copied into pictures of each style:",
        *table({style: copied[style] for style in STYLES if style in copied}, names),
        *(harmless(network, name, val) for network, name in zip(networks, names, strict=True)),
        speed(networks[0]),
    ]
    if chosen.pictures:
        for network, name in zip(networks, names, strict=True):
            outcome = evaluate_pictures(network, chosen.pictures)
            right = len(outcome.labels) - len(outcome.wrong)
            lines.append(f"Pictures that people made: `{name}` reads {right} of {len(outcome.labels)}.")
    text = "\n\n".join(lines).replace("|\n\n|", "|\n|")
    print(text)
    if not chosen.no_docs:
        path = PROJECT / "docs" / "own-digits.md"
        path.write_text(MARK.sub(lambda mark: f"{mark[1]}{text}\n{mark[2]}", path.read_text()))


def measured(style: str, labels: np.ndarray, digits: Sequence[Digit], networks: Sequence[Network]) -> list[float]:
    """The share that each network reads right after the usual preparation, then the same after ours."""
    number = list(STYLES).index(style)
    pictures = [STYLES[style](digit, np.random.default_rng([FRESH, number, i])) for i, digit in enumerate(digits)]
    usual, ours = np.stack([usually(picture) for picture in pictures]), [prepared(picture) for picture in pictures]
    read = np.array([pixels is not None for pixels in ours])
    known = np.stack([np.zeros((28, 28), np.uint8) if pixels is None else pixels for pixels in ours])
    return [
        *(float((network(usual).argmax(1) == labels).mean()) for network in networks),
        *(float(((network(known).argmax(1) == labels) & read).mean()) for network in networks),
    ]


def usually(content: bytes) -> np.ndarray:
    """[28, 28] uint8: what most tutorials do with a picture."""
    with Image.open(io.BytesIO(content)) as picture:
        grey = ImageOps.exif_transpose(picture).convert("RGB").convert("L")
        return 255 - np.asarray(grey.resize((28, 28), Image.Resampling.BILINEAR))


def prepared(content: bytes) -> np.ndarray | None:
    try:
        return prepare_one(content).pixels
    except BadPicture:
        return None


def table(rows: dict[str, list[float]], runs: list[str]) -> list[str]:
    headings = [*(f"usual, {run}" for run in runs), *(f"prepared, {run}" for run in runs)]
    lines = ["| style | " + " | ".join(headings) + " |", "| --- |" + " ---: |" * len(headings)]
    for style, shares in {**rows, "**all**": np.mean(list(rows.values()), axis=0)}.items():
        lines.append(f"| {style} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    return lines


def mnist_validation() -> Part:
    data = config_of().data
    assert isinstance(data, MNISTData)
    ensure_mnist(data.root, data.mirrors)
    return load_mnist(data.root, data.val_size, data.split_seed).val


def harmless(network: Network, name: str, val: Part) -> str:
    """MNIST's own pictures through the preparation."""
    images, labels = val.images[:, 0].numpy(), val.labels.numpy()
    right = 0
    for image, label in zip(images, labels, strict=True):
        found = digits_of(Image.fromarray(image).convert("RGB"))
        right += len(found) == 1 and int(network(found[0].pixels[None]).argmax()) == label
    before = float((network(images).argmax(1) == labels).mean())
    return (
        f"MNIST's own {len(labels):,} validation images, `{name}`: {before:.2%} as they are, "
        f"{right / len(labels):.2%} when they are prepared like any picture."
    )


def speed(network: Network) -> str:
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number in range(1000):
            path = Path(folder) / f"{number}.jpg"
            path.write_bytes(STYLES["squared paper"](number % 10, np.random.default_rng(number)))
            files.append(str(path))
        started = time.perf_counter()
        read = sum(reading.error is None for reading in read_pictures(network, files))
        return f"1,000 photos of 500 × 500 pixels: {time.perf_counter() - started:.1f} s, {read:,} read."


if __name__ == "__main__":
    main()
