"""What the sections of the config share: no unknown option, no silent conversion, and the commonest ranges."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def options(self) -> dict[str, Any]:
        """The fields but for `name`, as keyword arguments."""
        return self.model_dump(exclude={"name"})
