"""Picture files → predictions, many at a time; and their accuracy if the digits are known."""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from mnist_lit import DIGITS
from mnist_lit.console import progress_bar
from mnist_lit.digits.picture_file import BadPicture, can_read_heic
from mnist_lit.digits.preparation import Digit, cut_in_two, prepare_many, prepare_one
from mnist_lit.digits.trained_network import Network
from mnist_lit.errors import UserError
from mnist_lit.process import usable_cores

BATCH = 64  # pictures
STDIN = "-"
LEAST_PROBABILITY = 0.4  # with less for the best digit it is probably no digit; see docs/own-digits.md
SURE = 0.9  # a piece is cut into two digits if both have this probability
MOST_UNSURE = 30  # a picture with more pieces that are probably no digit is text or dirt
NO_DIGIT = "probably no digit: nothing like it in training"
NO_PICTURES = "there are no pictures in this folder"
READ = re.compile(r".*\.(a?png|jpe?g|jpe|jfif|gif|bmp|dib|webp|tiff?|p[pgbn]m|avif|jp2|ico|tga)", re.IGNORECASE)
# Pictures that Pillow does not read. They are listed, so that each one is named as not read.
UNREAD = re.compile(
    r".*\.(hei[cf]|hif|pdf|svgz?|eps|ai|psd|xcf|jxl|djvu|dng|cr[23]|nef|arw|raf|orf|rw2)", re.IGNORECASE
)
HEIC = re.compile(r".*\.(hei[cf]|hif)", re.IGNORECASE)  # read if the extra `heic` is installed
LITTER_FOLDERS = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found"}


@dataclass(frozen=True)
class Prediction:
    """A digit of a file with its `probabilities` [10], or the `error` that says why there is none. If a picture holds
    several digits, this is number `place` of `places`."""

    file: str
    digit: Digit | None = None
    probabilities: np.ndarray | None = None
    error: str | None = None
    place: int = 1
    places: int = 1

    @property
    def top(self) -> list[tuple[int, float]]:
        """The three most probable digits and their probabilities."""
        assert self.probabilities is not None
        best = np.argsort(-self.probabilities, kind="stable")[:3]
        return [(int(digit), float(self.probabilities[digit])) for digit in best]

    @property
    def is_digit(self) -> bool:
        """False for a shape that is probably no digit, and for a picture that cannot be read. A network is unsure of
        such shapes if it is trained with `data.augment.others`."""
        return self.probabilities is not None and float(self.probabilities.max()) >= LEAST_PROBABILITY

    def without_ink(self) -> "Prediction":
        """The ink of a photo takes up to 200 kB, and after the prediction it is not needed."""
        return replace(self, digit=replace(self.digit, ink=np.empty((0, 0), np.float32))) if self.digit else self

    @property
    def label(self) -> int | None:
        """The most probable digit; None if it is probably no digit."""
        return self.top[0][0] if self.is_digit else None


@dataclass(frozen=True)
class PictureEvaluation:
    """`labels` are the true digits of the predictions. `skipped` are pictures of kinds that cannot be read; they do not
    count."""

    predictions: list[Prediction]
    labels: list[int]
    skipped: list[Prediction]

    @property
    def wrong(self) -> list[tuple[Prediction, int]]:
        """Wrong predictions and their true labels. A picture that cannot be read counts as wrong."""
        pairs = zip(self.predictions, self.labels, strict=True)
        return [(prediction, label) for prediction, label in pairs if prediction.label != label]

    @property
    def confusion(self) -> np.ndarray:
        """Counts [10, 11]: rows are true labels, columns are predictions. The last column counts pictures without a
        prediction: they cannot be read, or they are probably no digit."""
        counts = np.zeros((10, 11), dtype=int)
        for prediction, label in zip(self.predictions, self.labels, strict=True):
            counts[label, 10 if prediction.label is None else prediction.label] += 1
        return counts


def list_pictures(sources: Iterable[str]) -> list[str]:
    """Files stay as they are. A folder is replaced by the pictures in it, sorted by name; it stays if it has none.

    What file managers and editors leave there (`._7.png`, `.thumbnails/`, `__MACOSX/`, `~$7.png`) is no picture.
    """
    files = []
    for source in sources:
        found = [source]
        if source != STDIN and Path(source).is_dir():
            found = [str(path) for path in sorted(Path(source).rglob("*")) if _is_picture(path, Path(source))]
        files += found or [source]
    return files


def _is_picture(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    if any(part.startswith((".", "~")) for part in parts) or LITTER_FOLDERS & set(parts):
        return False
    return bool(READ.fullmatch(path.name) or UNREAD.fullmatch(path.name)) and not path.is_dir()


def predict_pictures(network: Network, files: Sequence[str], many: bool = False) -> Iterator[Prediction]:
    """One prediction for each file, or for each digit in it if `many`. The files' order is kept. A terminal shows a
    progress bar."""
    with ThreadPoolExecutor(usable_cores()) as pool, progress_bar() as bar:
        task = bar.add_task("pictures", total=len(files))
        for start in range(0, len(files), BATCH):
            chosen = files[start : start + BATCH]
            prepared = list(pool.map(lambda file: _prepare(file, many), chosen))
            predictions = iter(_predict_batch(network, [prediction for picture in prepared for prediction in picture]))
            for picture in prepared:
                predicted = list(islice(predictions, len(picture)))
                for prediction in _split_touching(network, predicted) if many else predicted:
                    yield prediction.without_ink()
            bar.advance(task, len(chosen))


def _prepare(file: str, many: bool) -> list[Prediction]:
    if file != STDIN and Path(file).is_dir():
        return [Prediction(file, error=NO_PICTURES)]
    try:
        source = sys.stdin.buffer.read() if file == STDIN else Path(file)
        digits = prepare_many(source) if many else [prepare_one(source)]
    except BadPicture as error:
        return [Prediction(file, error=str(error))]
    return [Prediction(file, digit, place=place, places=len(digits)) for place, digit in enumerate(digits, 1)]


def _predict_batch(network: Network, prepared: list[Prediction]) -> Iterator[Prediction]:
    pixels = [prediction.digit.pixels for prediction in prepared if prediction.digit]
    probabilities = iter(network(np.stack(pixels)) if pixels else ())
    for prediction in prepared:
        yield replace(prediction, probabilities=next(probabilities)) if prediction.digit else prediction


def _split_touching(network: Network, picture: list[Prediction]) -> list[Prediction]:
    """Digits that touch are one piece, and probably no digit. It is cut in two where the network is sure of both."""
    unsure = sum(not prediction.is_digit for prediction in picture)
    if not 0 < unsure <= MOST_UNSURE:
        return picture
    split: list[Prediction] = []
    for prediction in picture:
        ways = cut_in_two(prediction.digit) if prediction.digit and not prediction.is_digit else []
        if ways:
            probabilities = network(np.stack([half.pixels for way in ways for half in way])).reshape(len(ways), 2, -1)
            sure = probabilities.max(2).min(1)
            if sure.max() >= SURE:
                halves = zip(ways[sure.argmax()], probabilities[sure.argmax()], strict=True)
                split += [replace(prediction, digit=half, probabilities=values) for half, values in halves]
                continue
        split.append(prediction)
    return [replace(prediction, place=place, places=len(split)) for place, prediction in enumerate(split, 1)]


def evaluate_pictures(network: Network, folder: Path) -> PictureEvaluation:
    """Predict every picture below a folder and compare it with its label.

    Raises:
        UserError: if there are no pictures, or if a picture has no label.
    """
    if not folder.is_dir():
        raise UserError(f"--pictures {folder}: there is no such folder")
    files = list_pictures([str(folder)])
    if files == [str(folder)]:
        raise UserError(f"--pictures {folder}: {NO_PICTURES}")
    doubtful = [file for file in files if UNREAD.fullmatch(file) and not (HEIC.fullmatch(file) and can_read_heic())]
    # By content: a picture can have the wrong name, and Pillow reads some of these kinds.
    skipped = [prediction for prediction in predict_pictures(network, doubtful) if prediction.error]
    left_out = {prediction.file for prediction in skipped}
    files = [file for file in files if file not in left_out]
    if not files:
        raise UserError(
            f"--pictures {folder}: none of its {len(skipped)} pictures can be read: save them as PNG or JPEG"
        )
    labels = read_labels(files)
    predictions = list(predict_pictures(network, files))
    return PictureEvaluation(predictions, labels, skipped)


def read_labels(files: Sequence[str]) -> list[int]:
    """The label is the folder's name if that is a digit, otherwise the first character of the file's name."""
    labels = []
    for file in map(Path, files):
        label = file.parent.name if file.parent.name in DIGITS else file.name[0]
        if label not in DIGITS:
            raise UserError(
                f"{file}: which digit is it? Begin its name with the digit, or put it into a folder named after it"
            )
        labels.append(int(label))
    return labels
