"""`sweep`: what concerns several runs together."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mnist_lit.config.section import PositiveInt, Section


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
