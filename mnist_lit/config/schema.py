"""The sections of a run's config that this project owns: types, ranges, defaults.

Every field has a default, so that a later version can read the config.yaml of an earlier run. The default is what an
earlier run did. The YAML files in conf/ hold the values for new runs, one commented line each.
"""

from collections.abc import Mapping
from math import ceil
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from mnist_lit import DIGITS

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def _check_limit(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (value >= 1 if isinstance(value, int) else 0 < value <= 1):
        raise PydanticCustomError(
            "limit", "should be a number of batches, at least 1, or a part of them: 0.1 is a tenth, 1.0 is all"
        )
    return value


def count_batches(size: int, batch_size: int, limit: int | float = 1.0) -> int:
    """How many batches of `size` images a limit leaves: the number itself, or the part of them rounded down."""
    batches = ceil(size / batch_size)
    return min(limit, batches) if isinstance(limit, int) else int(limit * batches)


Limit = Annotated[int | float, BeforeValidator(_check_limit)]  # as Lightning's limit_train_batches
NAME_PATTERN, MD5_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$", "^[0-9a-f]{32}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]

# Markers beside a field. Each list of such options in the project is made from them.
NOT_COMPARED = "not compared"  # changes where, how fast or how loudly a run works, but not its result
CHANGEABLE = "changeable"  # `resume=RUN` may change it

# What the class of a section has to be derived from.
BASES = {
    "data": "mnist_lit.data.datamodule.DigitDataModule",
    "model": "mnist_lit.models.DigitClassifier",
    "loss": "mnist_lit.losses.Loss",
    "optimizer": "torch.optim.Optimizer",
    "scheduler": "torch.optim.lr_scheduler.LRScheduler",
    "callbacks": "lightning.pytorch.Callback",
    "logger": "lightning.pytorch.loggers.Logger",
}
MNIST_MODULE = "mnist_lit.data.datamodule.MNISTDataModule"
DIGITS_MODULE = "mnist_lit.data.datamodule.SklearnDigitsDataModule"


class Section(BaseModel):
    """No unknown option, no silent conversion, neither nan nor infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ClassSection(Section):
    """A class and the arguments of its constructor. `target` None stands for nothing, as in `scheduler=none`."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    target: str | None = Field(None, alias="_target_")

    @property
    def options(self) -> dict[str, Any]:
        return {name: value for name, value in (self.model_extra or {}).items() if name != "_partial_"}


class AugmentSection(Section):
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    shift: Annotated[float, Field(ge=0, le=14)] = 0.0
    scale: Fraction = 0.0
    stroke: Fraction = 0.0
    noise: Fraction = 0.0
    aspect: Fraction = 0.0
    shear: Fraction = 0.0
    elastic: Annotated[float, Field(ge=0, le=14)] = 0.0
    drawn: Fraction = 0.0
    others: Fraction = 0.0


class DataSection(Section):
    """What all data sets share. Other options belong to the class that `_target_` names."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    target: str = Field(MNIST_MODULE, alias="_target_")
    name: Name = "mnist"
    batch_size: PositiveInt = 64
    val_size: Annotated[int, Field(ge=10)] = 5000
    train_size: Annotated[int, Field(ge=10)] | None = None
    label_noise: Fraction = 0.0
    split_seed: Annotated[int, Field(ge=0)] = 0
    mean: float = 0.1307
    std: PositiveFloat = 0.3081
    classes: Annotated[list[str], Field(min_length=10, max_length=10), NOT_COMPARED] = Field(default=list(DIGITS))
    augment: AugmentSection | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the data module."""
        return self.model_dump(exclude={"target", "fallback", "fallback_reason"})


class DataFile(Section):
    """One of the four files. `archive_md5` is the checksum of NAME.gz, `md5` of NAME; null where it is not known."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    archive_md5: Annotated[str, Field(pattern=MD5_PATTERN)] | None = None
    md5: Annotated[str, Field(pattern=MD5_PATTERN)] | None = None


class DataFiles(Section):
    train_images: DataFile
    train_labels: DataFile
    test_images: DataFile
    test_labels: DataFile


def _split_commas(mirrors: Any) -> Any:
    return [url.strip() for url in mirrors.split(",") if url.strip()] or None if isinstance(mirrors, str) else mirrors


class IDXData(DataSection):
    """A data set in MNIST's file format (IDX)."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    root: Annotated[str, Field(min_length=1), NOT_COMPARED, CHANGEABLE] = "data"
    folder: Annotated[str, Field(min_length=1), NOT_COMPARED] = "MNIST/raw"
    mirrors: Annotated[list[str] | None, BeforeValidator(_split_commas), NOT_COMPARED, CHANGEABLE] = None
    files: Annotated[DataFiles | None, NOT_COMPARED] = None
    fallback: Annotated[Literal["digits"] | None, NOT_COMPARED] = None


class SklearnDigitsData(DataSection):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    fallback: Annotated[Literal["digits"] | None, NOT_COMPARED] = None  # a preset for MNIST may set it
    fallback_reason: Annotated[str | None, NOT_COMPARED] = None


def data_kind(section: Any) -> str:
    """idx, digits, or own for a data set from outside the package."""
    known = {MNIST_MODULE: "idx", DIGITS_MODULE: "digits"}
    if isinstance(section, Mapping):
        return known.get(str(section.get("_target_", MNIST_MODULE)), "own")
    return known.get(getattr(section, "target", ""), "own")


Data = Annotated[
    Annotated[IDXData, Tag("idx")] | Annotated[SklearnDigitsData, Tag("digits")] | Annotated[DataSection, Tag("own")],
    Discriminator(data_kind),
]


class TrainerSection(Section):
    accelerator: Annotated[Literal["auto", "cpu", "gpu", "mps"], CHANGEABLE] = "auto"
    devices: PositiveInt = 1
    max_epochs: Annotated[PositiveInt, CHANGEABLE] = 2
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "32-true"
    gradient_clip_val: PositiveFloat | None = None
    accumulate_grad_batches: PositiveInt = 1
    limit_train_batches: Limit = 1.0
    limit_val_batches: Limit = 1.0
    limit_test_batches: Limit = 1.0
    fast_dev_run: bool = False
    steps_per_execution: Annotated[PositiveInt | Literal["auto"], NOT_COMPARED] = "auto"
    log_every_n_steps: Annotated[PositiveInt, NOT_COMPARED, CHANGEABLE] = 50
    print_every_n_steps: Annotated[PositiveInt | None, NOT_COMPARED, CHANGEABLE] = None
    enable_progress_bar: Annotated[bool, NOT_COMPARED, CHANGEABLE] = True
    early_stopping_patience: PositiveInt | None = None
    profiler: Annotated[Literal["simple", "advanced"] | None, NOT_COMPARED, CHANGEABLE] = None

    @property
    def limits(self) -> dict[str, int | float]:
        """Split → its limit, for the splits that have one."""
        limits = {"train": self.limit_train_batches, "val": self.limit_val_batches, "test": self.limit_test_batches}
        return {split: limit for split, limit in limits.items() if isinstance(limit, int) or limit < 1}

    @model_validator(mode="after")
    def _half_precision_needs_a_gpu(self) -> "TrainerSection":
        if self.precision == "16-mixed" and self.accelerator == "cpu":
            raise ValueError("trainer.precision=16-mixed: needs a GPU; on the CPU use 32-true or bf16-mixed")
        if self.precision == "16-mixed" and self.gradient_clip_val is not None:
            raise ValueError(
                f"trainer.gradient_clip_val={self.gradient_clip_val}: does not work with trainer.precision=16-mixed, "
                "which scales the gradients; use bf16-mixed or 32-true"
            )
        return self


class Switches(Section):
    """On and off, and entries of a person's own: a mapping with `_target_`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, ClassSection | None]

    @property
    def switches(self) -> dict[str, bool]:
        return {name: getattr(self, name) for name in type(self).model_fields}

    @property
    def entries(self) -> dict[str, ClassSection]:
        """An entry that is null is switched off."""
        return {name: it for name, it in self.__pydantic_extra__.items() if it is not None and it.target is not None}


class LoggerSection(Switches):
    tensorboard: bool = True
    csv: bool = True
    mlflow: bool = False
    wandb: bool = False


class CallbacksSection(Switches):
    hparams: bool = True
    text: bool = True
    per_class_accuracy: bool = True
    confusion_matrix: bool = True
    worst_mistakes: bool = True
    sample_predictions: bool = True
    pr_curves: bool = True
    weight_histograms: bool = True
    graph: bool = True
    projector: bool = True


class CheckpointSection(Section):
    monitor: Literal["val_acc", "val_loss"] = "val_acc"
    every_seconds: Annotated[PositiveFloat | None, NOT_COMPARED, CHANGEABLE] = 60.0

    @property
    def mode(self) -> str:
        return "max" if self.monitor == "val_acc" else "min"


class ReferenceSection(Section):
    """Where a preset comes from. `published` quotes the article. `loop_acc` is the test accuracy, 0 to 1, that the
    article's own training loop reached on the official test set."""

    article: str
    published: str | None = None
    loop_acc: Annotated[float, Field(gt=0, lt=1)] | None = None


class LessonSection(Section):
    """The words of a file in conf/sweep/: what it shows, the point that its runs make, what to try next, and how long
    it takes on two CPU cores."""

    shows: str
    point: str
    try_next: str | None = None  # a command on the first line, then what it does
    minutes: PositiveInt | None = None


class SweepSection(Section):
    """What concerns several runs together. All but the first two options are for searches."""

    resume: str | None = None
    expect_divergence: bool = False
    trials: PositiveInt = 20
    objectives: Annotated[list[Literal["val_acc", "val_loss", "fit_seconds", "params"]], Field(min_length=1)] = Field(
        default=["val_acc"]
    )
    sampler: Literal["tpe", "cmaes", "random", "grid"] = "tpe"
    pruner: Literal["none", "median", "halving"] = "none"
    workers: PositiveInt = 1
    storage: str | None = None
    study: str | None = None

    @model_validator(mode="after")
    def _check_objectives(self) -> "SweepSection":
        if self.pruner != "none" and self.objectives not in (["val_acc"], ["val_loss"]):
            raise ValueError(
                f"sweep.pruner={self.pruner}: compares the runs by the curve of val_acc or val_loss, so one of them "
                f"has to be the only objective; given: sweep.objectives=[{','.join(self.objectives)}]"
            )
        if self.sampler == "cmaes" and len(self.objectives) > 1:
            raise ValueError("sweep.sampler=cmaes: works with one objective; for several use tpe or random")
        return self


class TrainConfig(Section):
    """The whole config of a run."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    tags: Annotated[list[Name], NOT_COMPARED, CHANGEABLE] = Field(default=[])
    init_from: str | None = None
    data: Data
    model: ClassSection
    loss: ClassSection = ClassSection.model_validate(
        {"_target_": "mnist_lit.losses.CrossEntropy", "label_smoothing": 0.0}
    )
    optimizer: ClassSection
    scheduler: ClassSection = ClassSection.model_validate({"_target_": None})
    trainer: TrainerSection = TrainerSection()
    logger: Annotated[LoggerSection, NOT_COMPARED, CHANGEABLE] = LoggerSection.model_validate({})
    callbacks: Annotated[CallbacksSection, NOT_COMPARED, CHANGEABLE] = CallbacksSection.model_validate({})
    checkpoint: CheckpointSection = CheckpointSection()
    reference: Annotated[ReferenceSection | None, NOT_COMPARED] = None
    lesson: Annotated[LessonSection | None, NOT_COMPARED] = None

    @property
    def class_sections(self) -> dict[str, ClassSection]:
        """`optimizer` and so on, `callbacks.NAME` and `logger.NAME`: every section that names a class of its own."""
        entries = {f"callbacks.{name}": entry for name, entry in self.callbacks.entries.items()}
        entries |= {f"logger.{name}": entry for name, entry in self.logger.entries.items()}
        return {
            "model": self.model,
            "loss": self.loss,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
        } | entries
