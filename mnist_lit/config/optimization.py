"""`optimizer` and `scheduler`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mnist_lit.config.section import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Section


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
