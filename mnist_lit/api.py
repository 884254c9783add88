"""The project from Python: `mnist_lit.train`, `load` and `runs`. Imports no torch before it is needed."""

import logging
import os
import re
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException
from PIL import Image
from rich.table import Column, Table
from rich.text import Text

from mnist_lit import CONFIG_FOLDER, DIGITS
from mnist_lit.config.options import comparable, is_compared
from mnist_lit.console import WIDTH, ConsoleHandler, print_line, render_text
from mnist_lit.digits.picture_file import BadPicture, naming_the_fault
from mnist_lit.digits.preparation import prepare_one
from mnist_lit.digits.trained_network import Network, open_network, read_network
from mnist_lit.errors import UserError
from mnist_lit.hydra_app import (
    CODE_OVERRIDE,
    composition_errors,
    drop_empty_variables,
    format_error,
    parse_override,
    prepare_override,
)
from mnist_lit.preflight import prepare_run, raising_user_errors
from mnist_lit.process import RunInterrupted, importing
from mnist_lit.reports.run_reader import Run, find_runs, read_run
from mnist_lit.run_folder import LOG, find_run
from mnist_lit.training.resume import NothingToDo

SIDE = 28  # pixels
EXPECTED = (
    "predict takes arrays or tensors [n, 28, 28] or [28, 28] with 0 as background, uint8 from 0 to 255 or float from 0 "
    "to 1 or from 0 to 255; PIL pictures; paths of pictures; or a list of these"
)
FAINTEST = 16  # of 255: a picture whose brightest pixel is at most this has another scale
CHUNK = 1000  # pictures in the memory at once
_training = threading.Lock()  # a run sets the random numbers and the threads of the process


def train(*overrides: str) -> Run:
    """Train one network: `train("model=cnn", "optimizer.lr=0.01")` is `python train.py model=cnn optimizer.lr=0.01`.

    The run has the same checks, the same folder below outputs/ and the same weights. `train("resume=RUN")` continues
    a run. Ctrl-C, or the stop button of a notebook, ends it with a checkpoint.

    Raises:
        UserError: naming what is wrong. Nothing has been written if it was noticed before the run began.
    """
    if not _training.acquire(blocking=False):
        raise UserError("train: another training runs in this process. Wait for its end, or start another process")
    try:
        config, lock = _prepare([_check_override(text) for text in overrides])
        folder = Path(config.hydra.run.dir)
        with lock, _logging_to(folder):
            _record_composition(config, folder)
            with importing():
                from mnist_lit.training.job import run_config
            run_config(config, config.hydra, folder, resume=config.resume is not None)
        return read_run(folder)
    except NothingToDo as complete:
        print_line(str(complete))
        return read_run(complete.folder)
    except RunInterrupted as stop:
        if stop.signum == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise
    finally:
        _training.release()


def load(run: "str | os.PathLike[str] | Run | None" = None) -> "Classifier":
    """The trained network of a run: what `train` returned, the run's folder, a unique part of its name, or `latest`; or
    a checkpoint, or an exported .onnx file; without a run, the network that comes with this package. Raises
    UserError."""
    if run is None:
        return Classifier(open_network(None))
    path = run.folder if isinstance(run, Run) else find_run(os.fspath(run))
    return Classifier(read_network(path))


def runs(folder: str | os.PathLike[str] = "outputs") -> "Runs":
    """All runs below a folder, the newest last. Raises UserError if there is no such folder."""
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: there is no such folder")
    found, problems = find_runs(Path(folder))
    for problem in problems:
        warnings.warn(problem, stacklevel=2)
    return Runs(found)


class Runs(list[Run]):
    """A list of runs that prints as a table."""

    def rows(self) -> list[dict[str, Any]]:
        """One row for each run: its result, and the choices and options in which the runs differ.
        `pandas.DataFrame(runs.rows())` makes a table of them."""
        given = [run.choices | {name: run.options[name] for name in filter(_is_shown, run.options)} for run in self]
        names = dict.fromkeys(name for options in given for name in options)
        differing = [name for name in names if len({comparable(name, options.get(name)) for options in given}) > 1]
        return [
            {"status": run.result.get("status")}
            | {name: run.result.get(name) for name in ("test_acc", "val_acc", "fit_seconds")}
            | {name: options.get(name) for name in differing}
            | {"run": str(run.folder)}
            for run, options in zip(self, given, strict=True)
        ]

    def __repr__(self) -> str:
        rows = self.rows()
        if not rows:
            return "no runs"
        table = Table(*(Column(name, no_wrap=True) for name in rows[0]), box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
        return render_text(table, width=WIDTH * len(rows[0]))


def _is_shown(option: str) -> bool:
    return option == "seed" or (is_compared(option) and not option.endswith("_target_"))


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """`labels` [n] are the numbers of the classes, `probabilities` [n, 10] those of all classes. `pixels` [n, 28, 28]
    is what the network has seen."""

    labels: np.ndarray
    probabilities: np.ndarray
    pixels: np.ndarray
    classes: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The names of the predicted classes: `7`, or `Ankle boot`."""
        return [self.classes[label] for label in self.labels]

    @property
    def confidence(self) -> np.ndarray:
        """The probability of each prediction, [n]."""
        return self.probabilities.max(1)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        shown = [f"{name} {value:.1%}" for name, value in zip(self.names[:10], self.confidence, strict=False)]
        return f"Predictions({', '.join(shown)}{', …' if len(self) > 10 else ''})"


class Classifier:
    """A trained network that takes pictures as people have them. `about` is its name and accuracy in one line."""

    def __init__(self, network: Network) -> None:
        self.network, self.about, self.classes = network, network.about, network.classes

    def predict(self, images: Any) -> Predictions:
        """Classify pictures: arrays or tensors [n, 28, 28] or [28, 28] with 0 as background, uint8 from 0 to 255 or
        float from 0 to 1; PIL pictures; paths of pictures; or a list of these. They are normalized here.

        Pictures and files may be of any size and color. They are prepared like MNIST's, as `mnist-lit predict` does.

        Raises:
            UserError: naming what it got and what it takes.
        """
        pixels = self._to_pixels(images)
        parts = [self.network(pixels[start : start + CHUNK]) for start in range(0, len(pixels), CHUNK)]
        probabilities = np.concatenate(parts) if parts else np.zeros((0, len(self.classes)), np.float32)
        return Predictions(probabilities.argmax(1), probabilities, pixels, self.classes)

    def __repr__(self) -> str:
        return f"Classifier({self.about})"

    def _to_pixels(self, images: Any) -> np.ndarray:
        if _is_picture(images):
            images = [images]
        if isinstance(images, list | tuple) and any(map(_is_picture, images)):
            parts = [
                self._prepare(it, number) if _is_picture(it) else to_pixels(it) for number, it in enumerate(images)
            ]
            return np.concatenate(parts)
        pixels = to_pixels(images)
        if self.classes == DIGITS and (light := int(has_light_border(pixels).sum())):
            warnings.warn(
                f"{light} of {len(pixels)} pictures have a light border, but this network reads light digits on black. "
                "Pass 255 - images, 1 - images, or PIL pictures, whose background is found",
                stacklevel=3,
            )
        return pixels

    def _prepare(self, picture: Any, number: int) -> np.ndarray:
        """One picture or file → [1, 28, 28]. A gray picture of 28 × 28 on black is like MNIST's already."""
        is_image = isinstance(picture, Image.Image)
        name = f"picture {number}" if is_image else os.fspath(picture)
        try:
            if is_image and (picture.size, picture.mode) == ((SIDE, SIDE), "L"):
                with naming_the_fault():
                    pixels = np.array(picture)[None]
                if self.classes != DIGITS or not has_light_border(pixels).any():
                    return pixels
            if self.classes != DIGITS:
                raise UserError(
                    f"{name}: pictures are prepared as digits, and this network is trained on {self.network.dataset}. "
                    "Pass arrays [n, 28, 28]"
                )
            return prepare_one(picture if is_image else Path(picture)).pixels[None]
        except BadPicture as error:
            raise UserError(f"{name}: {error}") from error


def to_pixels(images: Any) -> np.ndarray:
    """Arrays or tensors of gray pictures → [n, 28, 28] uint8. Raises UserError."""
    if isinstance(images, list | tuple):
        images = [_to_array(image) for image in images]
    try:
        values = np.asarray(_to_array(images))
    except ValueError as error:  # a list of different shapes
        raise UserError(f"{EXPECTED}. These have different shapes") from error
    if values.dtype.kind not in "biuf":
        raise UserError(f"{EXPECTED}. This is {type(images).__name__} of {values.dtype}")
    shape = list(values.shape)
    if values.ndim == 4 and shape[1] == 1:
        values = values[:, 0]
    elif values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or values.shape[1:] != (SIDE, SIDE):
        raise UserError(f"{EXPECTED}. This has the shape {shape}")
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (low >= 0 and high <= 255):  # or NaN
        raise UserError(f"{EXPECTED}. These go from {low:.3g} to {high:.3g}; leave out the normalization")
    if values.dtype.kind == "b" or (values.dtype.kind == "f" and high <= 1):
        values = values.astype(np.float32) * 255
    elif 0 < high <= FAINTEST:
        raise UserError(f"{EXPECTED}. These go from {low:.3g} to {high:.3g}, which is too little for values up to 255")
    return np.rint(values).astype(np.uint8)


def has_light_border(pixels: np.ndarray) -> np.ndarray:
    """For each picture of [n, 28, 28] whether most of its border is light."""
    rows, columns = pixels[:, [0, -1]], pixels[:, :, [0, -1]]
    return np.asarray((rows.mean((1, 2)) + columns.mean((1, 2))) / 2 > 127)


def _to_array(image: Any) -> Any:
    """A tensor of any device and type as an array; anything else as it is."""
    if not hasattr(image, "detach"):
        return image
    tensor = image.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _is_picture(image: Any) -> bool:
    return isinstance(image, str | os.PathLike | Image.Image)


def _check_override(text: str) -> str:
    """The override as Hydra reads it. Raises UserError for what only the command can do."""
    if not isinstance(text, str):
        raise UserError(f"train: takes options as text, such as 'optimizer.lr=0.01', not {text!r}")
    if text.startswith("-"):
        raise UserError(f"{text}: is a flag of the command: mnist-lit train {text} …")
    if CODE_OVERRIDE.search(text):
        raise UserError(f"{text}: an option cannot choose the code that Hydra runs")
    if "=" not in text and not text.startswith("~"):
        raise UserError(f"{text}: should be OPTION=VALUE, such as model=cnn")
    text = prepare_override(text)
    override = parse_override(text)
    if override and (override.is_sweep_override() or re.match(r"sweep\b|hydra\.mode", override.key_or_group)):
        raise UserError(f"{text}: makes several runs, and train makes one. Use the command: mnist-lit train -m {text}")
    return text


def _prepare(overrides: list[str]) -> tuple[DictConfig, AbstractContextManager[object]]:
    """The checked config of a run whose folder is claimed, and the lock of a run that is resumed. Hydra's global state
    is as before."""
    drop_empty_variables()
    outer, base = get_gh_backup(), version.getbase()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIG_FOLDER), job_name="train", version_base="1.3"), raising_user_errors():
            config = _compose(overrides)
            return config, prepare_run(config)
    finally:
        restore_gh_from_backup(outer)
        version.VersionBase.instance().version_base = base


def _compose(overrides: list[str]) -> DictConfig:
    """Raises UserError: one line for each override that does not fit."""
    try:
        return compose("train", overrides, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        lines = composition_errors(lambda rest: compose("train", rest), overrides) or [format_error(error)]
        raise UserError("\n".join(line.removeprefix("error: ") for line in lines)) from None


def _record_composition(config: DictConfig, folder: Path) -> None:
    """The folder .hydra/, as Hydra writes it."""
    with read_write(config.hydra.runtime):
        config.hydra.runtime.output_dir = str(folder.absolute())
    if config.hydra.output_subdir is None:  # a resumed run
        return
    (folder / config.hydra.output_subdir).mkdir(exist_ok=True)
    parts = {
        "config": OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]),
        "hydra": OmegaConf.masked_copy(config, ["hydra"]),
        "overrides": config.hydra.overrides.task,
    }
    for name, part in parts.items():
        OmegaConf.save(part, folder / config.hydra.output_subdir / f"{name}.yaml")


@contextmanager
def _logging_to(folder: Path) -> Iterator[None]:
    """Print the lines of this package, and write them to the run's log. The handlers of the program stay."""
    logger = logging.getLogger("mnist_lit")
    before = logger.level, logger.propagate
    console, file = ConsoleHandler(), logging.FileHandler(folder / LOG, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter("[%(asctime)s] %(message)s"))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in (console, file):
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in (console, file):
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before[0])
        logger.propagate = before[1]
