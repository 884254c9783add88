"""`data`: where the pictures come from, how they are split and shown."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mnist_lit.config.section import Fraction, PositiveFloat, PositiveInt, Section


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
