"""The schema of a run's config: every option with its type and range. Imports no torch, so a bad option fails at once.

Holds no defaults: those are in `conf/`, one commented line each.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from mnist_lit.choices import Activation, Output, loss_objection
from mnist_lit.errors import UserError

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def options(self) -> dict[str, Any]:
        """The fields but for `name`, as keyword arguments."""
        return self.model_dump(exclude={"name"})


AnySection = TypeVar("AnySection", bound=Section)

# ---- data ----------------------------------------------------------------------------------------------------------


def _split_commas(mirrors: Any) -> Any:
    return [url.strip() for url in mirrors.split(",") if url.strip()] if isinstance(mirrors, str) else mirrors


class AugmentSection(Section):
    rotation: Annotated[float, Field(ge=0, le=180)]
    shift: Annotated[float, Field(ge=0, le=14)]
    scale: Fraction
    stroke: Fraction = 0.0
    noise: Fraction = 0.0


class DataSection(Section):
    batch_size: PositiveInt
    split_seed: Annotated[int, Field(ge=0)]
    mean: float
    std: PositiveFloat
    augment: AugmentSection | None

    def _check_batch_size(self, train_size: int) -> None:
        if self.batch_size > train_size:
            raise ValueError(
                f"data.batch_size={self.batch_size}: should be at most {train_size}, the size of the training set"
            )


class MNISTData(DataSection):
    name: Literal["mnist"]
    root: Annotated[str, Field(min_length=1)]
    mirrors: Annotated[list[str] | None, BeforeValidator(_split_commas)]
    fallback: Literal["digits"] | None
    val_size: Annotated[int, Field(ge=10, le=59_990)]  # of the official 60,000

    @model_validator(mode="after")
    def _batch_fits(self) -> "MNISTData":
        self._check_batch_size(60_000 - self.val_size)
        return self


class DigitsData(DataSection):
    name: Literal["digits"]
    fallback_reason: str | None
    val_size: Annotated[int, Field(ge=10, le=1_427)]  # of the 1,437 that are not for testing

    @model_validator(mode="after")
    def _batch_fits(self) -> "DigitsData":
        self._check_batch_size(1_437 - self.val_size)
        return self


# ---- model and loss ------------------------------------------------------------------------------------------------


class ModelSection(Section):
    target: str = Field(alias="_target_")

    def options(self) -> dict[str, Any]:
        return self.model_dump(exclude={"target"})


class MLPModel(ModelSection):
    hidden: list[PositiveInt]
    activation: Activation
    output: Output


class CNNModel(ModelSection):
    activation: Activation
    output: Output


class ConvNetModel(ModelSection):
    channels: Annotated[list[PositiveInt], Field(min_length=1, max_length=4)]
    dropout: Fraction
    output: Output


class FastCNNModel(ModelSection):
    output: Output


class OwnModel(ModelSection):
    """A network from outside the package; its own options are checked against its constructor when it is imported."""

    model_config = ConfigDict(extra="allow")
    output: Output = "logits"


def _model_kind(section: Any) -> str:
    target = section.get("_target_") if isinstance(section, dict) else getattr(section, "target", None)
    return {f"mnist_lit.models.{name}": name for name in ("MLP", "CNN", "ConvNet", "FastCNN")}.get(str(target), "own")


Model = Annotated[
    Annotated[MLPModel, Tag("MLP")]
    | Annotated[CNNModel, Tag("CNN")]
    | Annotated[ConvNetModel, Tag("ConvNet")]
    | Annotated[FastCNNModel, Tag("FastCNN")]
    | Annotated[OwnModel, Tag("own")],
    Discriminator(_model_kind),
]


class CrossEntropy(Section):
    name: Literal["cross_entropy"]
    label_smoothing: Fraction


class OtherLoss(Section):
    name: Literal["nll", "mse", "l1"]


LossSection = Annotated[CrossEntropy | OtherLoss, Field(discriminator="name")]


# ---- optimisation --------------------------------------------------------------------------------------------------


class SGD(Section):
    name: Literal["sgd"]
    lr: PositiveFloat
    momentum: Fraction
    nesterov: bool
    weight_decay: NonNegativeFloat

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "SGD":
        if self.nesterov and self.momentum == 0:
            raise ValueError("optimizer.nesterov=true needs optimizer.momentum above 0")
        return self


class Adam(Section):
    name: Literal["adam", "adamw"]
    lr: PositiveFloat
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)]
    eps: PositiveFloat
    weight_decay: NonNegativeFloat


class Adagrad(Section):
    name: Literal["adagrad"]
    lr: PositiveFloat
    lr_decay: NonNegativeFloat
    weight_decay: NonNegativeFloat


class RMSprop(Section):
    name: Literal["rmsprop"]
    lr: PositiveFloat
    alpha: Fraction
    momentum: Fraction
    weight_decay: NonNegativeFloat


class NoSchedule(Section):
    name: Literal["none"]


class StepSchedule(Section):
    name: Literal["step"]
    step_size: PositiveInt
    gamma: Annotated[float, Field(gt=0, le=1)]


class CosineSchedule(Section):
    name: Literal["cosine"]
    eta_min: NonNegativeFloat


class OneCycleSchedule(Section):
    name: Literal["onecycle"]
    pct_start: Annotated[float, Field(gt=0, lt=1)]
    div_factor: Annotated[float, Field(ge=1)]
    final_div_factor: Annotated[float, Field(ge=1)]


Optimizer = Annotated[SGD | Adam | Adagrad | RMSprop, Field(discriminator="name")]
Scheduler = Annotated[NoSchedule | StepSchedule | CosineSchedule | OneCycleSchedule, Field(discriminator="name")]


# ---- the run -------------------------------------------------------------------------------------------------------


class TrainerSection(Section):
    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    devices: PositiveInt
    max_epochs: PositiveInt
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    gradient_clip_val: PositiveFloat | None
    steps_per_execution: PositiveInt | Literal["auto"]
    log_every_n_steps: PositiveInt
    early_stopping_patience: PositiveInt | None
    profiler: Literal["simple", "advanced"] | None

    @model_validator(mode="after")
    def _half_needs_gpu(self) -> "TrainerSection":
        if self.precision == "16-mixed" and self.accelerator == "cpu":
            raise ValueError("trainer.precision=16-mixed needs a GPU; on the CPU take 32-true or bf16-mixed")
        return self


class LoggerSection(Section):
    tensorboard: bool
    csv: bool
    mlflow: bool
    wandb: bool


class CallbacksSection(Section):
    hparams: bool
    per_class_accuracy: bool
    confusion_matrix: bool
    worst_mistakes: bool
    sample_predictions: bool
    pr_curves: bool
    weight_histograms: bool
    graph: bool
    projector: bool


class CheckpointSection(Section):
    monitor: Literal["val_acc", "val_loss"]
    every_seconds: PositiveFloat | None

    @property
    def mode(self) -> str:
        return "max" if self.monitor == "val_acc" else "min"


class ReferenceSection(Section):
    """Where a preset comes from. `published` is the article's own words; `loop_acc` what its own training loop reached
    on the official test set when it was run (test accuracy, 0 to 1)."""

    article: str
    published: str | None
    loop_acc: Annotated[float, Field(gt=0, lt=1)] | None


class TrainConfig(Section):
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    data: Annotated[MNISTData | DigitsData, Field(discriminator="name")]
    model: Model
    loss: LossSection
    optimizer: Optimizer
    scheduler: Scheduler
    trainer: TrainerSection
    logger: LoggerSection
    callbacks: CallbacksSection
    checkpoint: CheckpointSection
    reference: ReferenceSection | None

    @model_validator(mode="after")
    def _loss_fits_output(self) -> "TrainConfig":
        if objection := loss_objection(self.loss.name, self.model.output):
            raise ValueError(objection)
        return self


class SweepSection(Section):
    resume: str | None
    trials: PositiveInt
    objectives: Annotated[list[Literal["val_acc", "val_loss", "fit_seconds", "params"]], Field(min_length=1)]
    sampler: Literal["tpe", "cmaes", "random", "grid"]
    pruner: Literal["none", "median", "halving"]
    workers: PositiveInt
    storage: str | None
    study: str | None

    @model_validator(mode="after")
    def _pruner_has_a_curve(self) -> "SweepSection":
        if self.pruner != "none" and self.objectives not in (["val_acc"], ["val_loss"]):
            raise ValueError(
                f"sweep.pruner={self.pruner}: prunes by the curve of val_acc or val_loss, so it needs one of them as "
                f"the only objective; given: sweep.objectives=[{','.join(self.objectives)}]"
            )
        if self.sampler == "cmaes" and len(self.objectives) > 1:
            raise ValueError("sweep.sampler=cmaes: has one objective; for several take tpe or random")
        return self


def parse_config(values: Any) -> TrainConfig:
    """Check a composed, resolved config.

    Raises:
        UserError: naming every option that is wrong, its value and what is legal.
    """
    return _parse(TrainConfig, values)


def parse_sweep(values: Any) -> SweepSection:
    """Check the section `sweep` of a composed, resolved config.

    Raises:
        UserError: as `parse_config`.
    """
    return _parse(SweepSection, values, "sweep")


def _parse(section: type[AnySection], values: Any, *path: str) -> AnySection:
    try:
        return section.model_validate(values)
    except ValidationError as error:
        problems = [problem | {"loc": (*path, *problem["loc"])} for problem in error.errors()]
        raise UserError("\n".join(map(_explain, problems))) from None


def flat_options(config: TrainConfig) -> dict[str, Any]:
    """What the run computes with, `optimizer.lr` → 0.001 and so on: nothing of where files lie or what is logged."""
    places = {"root", "mirrors", "fallback", "fallback_reason"}
    aside: Any = {"logger": True, "callbacks": True, "reference": True, "checkpoint": True, "data": places}
    sections = config.model_dump(by_alias=True, exclude=aside)
    return {"seed": sections.pop("seed")} | {
        f"{section}.{name}": value for section, options in sections.items() for name, value in options.items()
    }


def _explain(problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    option = ".".join(part for part in path if part not in _UNION_TAGS)
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if problem["type"] == "value_error":
        return message
    if problem["type"] == "extra_forbidden":
        return f"{option}: there is no such option"
    if problem["type"] == "missing":
        return f"{option}: is missing"
    if problem["type"] == "union_tag_invalid":
        return f"{option}.name={problem['ctx']['tag']}: should be one of {problem['ctx']['expected_tags']}"
    if problem["type"] == "union_tag_not_found":
        return f"{option}: should name its kind, as {option}.name"
    return f"{option}={_shown(problem['input'])}: {message}"


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


_UNION_TAGS = {
    *("MLP", "CNN", "ConvNet", "FastCNN", "own", "mnist", "digits"),
    *("cross_entropy", "nll", "mse", "l1"),
    *("sgd", "adam", "adamw", "adagrad", "rmsprop"),
    *("none", "step", "cosine", "onecycle"),
    *("int", "literal['auto']", "constrained-int", "float"),
}
