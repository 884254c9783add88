"""The whole config of a run."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mnist_lit.choices import loss_objection
from mnist_lit.config.data import DigitsData, MNISTData
from mnist_lit.config.model import LossSection, Model
from mnist_lit.config.optimization import Optimizer, Scheduler
from mnist_lit.config.section import PositiveFloat, PositiveInt, Section


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
        if self.precision == "16-mixed" and self.gradient_clip_val is not None:
            raise ValueError(
                f"trainer.gradient_clip_val={self.gradient_clip_val}: trainer.precision=16-mixed scales the gradients, "
                "so their norm is not what is trained with; take bf16-mixed or 32-true"
            )
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


def flat_options(config: TrainConfig) -> dict[str, Any]:
    """What the run computes with, `optimizer.lr` → 0.001 and so on: nothing of where files lie or what is logged."""
    places = {"root", "mirrors", "fallback", "fallback_reason"}
    aside: Any = {"logger": True, "callbacks": True, "reference": True, "checkpoint": True, "data": places}
    sections = config.model_dump(by_alias=True, exclude=aside)
    return {"seed": sections.pop("seed")} | {
        f"{section}.{name}": value for section, options in sections.items() for name, value in options.items()
    }
