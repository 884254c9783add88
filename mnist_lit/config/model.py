"""`model` and `loss`."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from mnist_lit.choices import Activation, Output
from mnist_lit.config.section import Fraction, PositiveInt, Section


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
