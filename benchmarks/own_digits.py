"""`python -m benchmarks.own_digits --run RUN [--run RUN …]` measures finished runs on pictures of many styles.

It writes docs/own-digits.md. The pictures are new. They come from strokes and from validation digits, which are not
training data. All networks read the same pictures: the runs, and the network that comes with the package. The program
compares the preparation of this project with the usual one: convert to gray, resize to 28 × 28, invert. It also reads
pictures that hold no digit. With `--pictures FOLDER` it reads labeled pictures that people made instead, and prints
right / total by style and by person.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.own_pictures import format_counts, list_labeled_pictures, read_all, read_all_usual
from benchmarks.pages import replace_between
from mnist_lit.config import IDXData
from mnist_lit.data.datasets import Split, load_idx
from mnist_lit.data.files import FileSet, ensure_files
from mnist_lit.digits.picture_file import BadPicture
from mnist_lit.digits.picture_predictions import LEAST_PROBABILITY, predict_pictures
from mnist_lit.digits.preparation import prepare_digits, prepare_one
from mnist_lit.digits.trained_network import CheckpointNetwork, Network, open_network
from tests.configs import PROJECT, compose_config
from tests.digits.other_pictures import OTHERS
from tests.digits.picture_styles import STYLES, Digit

OTHER_COUNT = 60  # pictures of each kind that hold no digit
SEED = 1  # the preparation was tuned on pictures of other seeds
PENS = {"thin", "hairline", "thick", "fat", "slanted", "icon", "faint icon"}  # pen styles, not for copied digits


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own_digits", description=__doc__.splitlines()[0])
    parser.add_argument("--run", dest="runs", action="append", required=True, type=Path, help="a finished run")
    parser.add_argument("--count", type=int, default=100, help="pictures per style")
    parser.add_argument("--pictures", type=Path, help="read this folder with labels.tsv instead")
    parser.add_argument("--no-docs", action="store_true", help="print only")
    arguments = parser.parse_args()

    names: list[str] = [run.name for run in arguments.runs] + ["shipped"]
    networks: list[Network] = [*map(CheckpointNetwork, arguments.runs), open_network(None)]
    if arguments.pictures:
        print("\n".join(measure_pictures(arguments.pictures, dict(zip(names, networks, strict=True)))))
        return
    val = load_mnist_validation()
    labels = np.arange(arguments.count) % 10
    drawn = {style: measure_style(style, labels, list(labels), networks) for style in STYLES}
    copies = list(val.images[: arguments.count, 0].numpy())
    copied = {
        style: measure_style(style, val.labels[: arguments.count].numpy(), copies, networks)
        for style in STYLES.keys() - PENS
    }
    lines = [
        f"Digits that a program draws with its own pen, {arguments.count} pictures per style:",
        *format_table(drawn, names),
        f"The first {arguments.count} validation digits of MNIST, copied into pictures of each style:",
        *format_table({style: copied[style] for style in STYLES if style in copied}, names),
        *(describe_mnist(network, name, val) for network, name in zip(networks, names, strict=True)),
        f"Pictures that hold no digit, {OTHER_COUNT} of each kind, that are marked as probably no digit or blank:",
        *format_others(networks, names, val),
        measure_speed(networks[0]),
    ]
    text = "\n\n".join(lines).replace("|\n\n|", "|\n|")
    print(text)
    if not arguments.no_docs:
        replace_between(PROJECT / "docs" / "own-digits.md", "<!-- measured -->\n", "<!-- end -->", f"{text}\n")


def measure_pictures(folder: Path, networks: dict[str, Network]) -> list[str]:
    pictures = list_labeled_pictures(folder)
    answers = {"usual": read_all_usual(networks["shipped"], pictures, prepare_usual)}
    answers |= {name: read_all(network, pictures) for name, network in networks.items()}
    return format_counts(pictures, answers)


def measure_style(style: str, labels: np.ndarray, digits: Sequence[Digit], networks: Sequence[Network]) -> list[float]:
    """The accuracy of the last network after the usual preparation, then that of each after this project's."""
    number = list(STYLES).index(style)
    pictures = [STYLES[style](digit, np.random.default_rng([SEED, number, i])) for i, digit in enumerate(digits)]
    usual = np.stack([prepare_usual(picture) for picture in pictures])
    ours = [prepare_or_none(picture) for picture in pictures]
    read = np.array([pixels is not None for pixels in ours])
    known = np.stack([np.zeros((28, 28), np.uint8) if pixels is None else pixels for pixels in ours])
    return [
        float((networks[-1](usual).argmax(1) == labels).mean()),
        *(float(((network(known).argmax(1) == labels) & read).mean()) for network in networks),
    ]


def prepare_usual(content: bytes) -> np.ndarray:
    """Return [28, 28] uint8. Most tutorials prepare a picture in this way."""
    with Image.open(io.BytesIO(content)) as picture:
        gray = ImageOps.exif_transpose(picture).convert("RGB").convert("L")
        return 255 - np.asarray(gray.resize((28, 28), Image.Resampling.BILINEAR))


def prepare_or_none(content: bytes) -> np.ndarray | None:
    try:
        return prepare_one(content).pixels
    except BadPicture:
        return None


def format_table(rows: dict[str, list[float]], runs: list[str]) -> list[str]:
    headings = [f"usual, {runs[-1]}", *(f"prepared, {run}" for run in runs)]
    lines = ["| style | " + " | ".join(headings) + " |", "| --- |" + " ---: |" * len(headings)]
    for style, shares in {**rows, "**all**": np.mean(list(rows.values()), axis=0)}.items():
        lines.append(f"| {style} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    return lines


def format_others(networks: Sequence[Network], names: list[str], val: Split) -> list[str]:
    """How many pictures of each kind are marked, and how many of MNIST's validation digits."""
    rows = {kind: measure_others(kind, networks) for kind in OTHERS}
    lines = ["| kind | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    rows["**all but signs**"] = np.mean([rows[kind] for kind in OTHERS if kind != "sign"], 0).tolist()
    for kind, shares in rows.items():
        lines.append(f"| {kind} | " + " | ".join(f"{share:.0%}" for share in shares) + " |")
    digits = [float((network(val.images[:, 0].numpy()).max(1) < LEAST_PROBABILITY).mean()) for network in networks]
    return [*lines, "| MNIST's validation digits | " + " | ".join(f"{share:.2%}" for share in digits) + " |"]


def measure_others(kind: str, networks: Sequence[Network]) -> list[float]:
    number = list(OTHERS).index(kind)
    pictures = [OTHERS[kind](np.random.default_rng([SEED, number, i])) for i in range(OTHER_COUNT)]
    pixels = [pixels for picture in pictures if (pixels := prepare_or_none(picture)) is not None]
    return [
        1 - sum(network(it[None]).max() >= LEAST_PROBABILITY for it in pixels) / OTHER_COUNT for network in networks
    ]


def load_mnist_validation() -> Split:
    data = compose_config().data
    assert isinstance(data, IDXData)
    files = FileSet.from_options(data.options)
    ensure_files(files)
    return load_idx(files, data.val_size, data.split_seed).val


def describe_mnist(network: Network, name: str, val: Split) -> str:
    """Return the accuracy on MNIST images with and without the preparation."""
    images, labels = val.images[:, 0].numpy(), val.labels.numpy()
    right = 0
    for image, label in zip(images, labels, strict=True):
        found = prepare_digits(Image.fromarray(image).convert("RGB"))
        right += len(found) == 1 and int(network(found[0].pixels[None]).argmax()) == label
    before = float((network(images).argmax(1) == labels).mean())
    return (
        f"The {len(labels):,} validation images of MNIST, `{name}`: {before:.2%} without preparation, "
        f"{right / len(labels):.2%} with the same preparation as other pictures."
    )


def measure_speed(network: Network) -> str:
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number in range(1000):
            path = Path(folder) / f"{number}.jpg"
            path.write_bytes(STYLES["squared paper"](number % 10, np.random.default_rng(number)))
            files.append(str(path))
        started = time.perf_counter()
        read = sum(prediction.error is None for prediction in predict_pictures(network, files))
        return f"1,000 photos of 500 × 500 pixels: {time.perf_counter() - started:.1f} s, {read:,} pictures read."


if __name__ == "__main__":
    main()
