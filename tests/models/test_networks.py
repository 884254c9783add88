"""The networks: parameters to the last one, outputs and losses that mean what they say."""

import inspect
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional as F

from mnist_lit import models
from mnist_lit.models import CNN, MLP, DigitClassifier
from mnist_lit.models.layers import probabilities
from mnist_lit.models.losses import Loss
from mnist_lit.training.build import build_model
from tests.conftest import PROJECT, compose_config

IMAGES = torch.randn(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([3, 1, 4, 1, 5])


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mlp_500", 397_510),
        ("mlp_4x64", 59_210),
        ("mlp_128_64", 109_386),
        ("mlp_512", 407_050),
        ("cnn", 1_007_590),
        ("convnet", 165_394),
        ("fast_cnn", 108_890),
    ],
)
def test_parameters_come_out_exactly(name: str, parameters: int) -> None:
    model = build_model(compose_config(f"model={name}"), steps_per_epoch=10)
    assert model.parameter_count == parameters
    assert model(IMAGES).shape == (5, 10)


@pytest.mark.parametrize("path", sorted((PROJECT / "conf" / "model").glob("*.yaml")), ids=lambda path: path.stem)
def test_yaml_and_constructor_have_the_same_defaults(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    network = getattr(models, values.pop("_target_").rpartition(".")[2])
    signatures = inspect.signature(network).parameters | inspect.signature(DigitClassifier).parameters
    for name, value in values.items():
        assert signatures[name].default in (value, inspect.Parameter.empty)


@pytest.mark.parametrize("batch_size", [1, 200])
@pytest.mark.parametrize("network", [MLP(hidden=[32]), CNN()], ids=["mlp", "cnn"])
def test_any_batch_goes_in_and_ten_scores_an_image_come_out(network: DigitClassifier, batch_size: int) -> None:
    assert network(torch.zeros(batch_size, 1, 28, 28)).shape == (batch_size, 10)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "leaky_relu", "none"])
def test_pooling_before_the_activation_equals_pooling_after_it(activation: str) -> None:
    network = CNN(activation=activation).network
    conv, pool, act = network[0], network[1], network[2]
    assert torch.equal(act(pool(conv(IMAGES))), pool(act(conv(IMAGES))))


def test_without_activation_a_deep_network_is_one_linear_map() -> None:
    model = MLP(hidden=[64, 64, 64], activation="none")
    with torch.no_grad():
        zero = model(torch.zeros_like(IMAGES))
        assert torch.allclose(model(2 * IMAGES) - zero, 2 * (model(IMAGES) - zero), atol=1e-5)


@pytest.mark.parametrize("output", ["logits", "log_softmax", "softmax"])
def test_outputs_agree_on_the_probabilities(output: str) -> None:
    torch.manual_seed(0)
    reference = MLP(hidden=[32])
    model = MLP(hidden=[32], output=output)
    model.load_state_dict(reference.state_dict())
    assert torch.allclose(probabilities(model.output, model(IMAGES)), reference(IMAGES).softmax(1), atol=1e-6)


SCORES = torch.randn(5, 10, generator=torch.Generator().manual_seed(1))
GIVEN = {"logits": SCORES, "log_softmax": SCORES.log_softmax(1), "softmax": SCORES.softmax(1)}


@pytest.mark.parametrize("output", ["logits", "log_softmax"])
def test_cross_entropy_and_nll_are_the_negative_log_likelihood(output: str) -> None:
    expected = -SCORES.softmax(1)[torch.arange(5), LABELS].log().mean()
    assert torch.allclose(Loss("cross_entropy", output)(GIVEN[output], LABELS), expected)
    if output == "log_softmax":
        assert torch.allclose(Loss("nll", output)(GIVEN[output], LABELS), expected)


@pytest.mark.parametrize("output", ["logits", "log_softmax", "softmax"])
def test_mse_and_l1_measure_the_probabilities_against_one_hot_targets(output: str) -> None:
    difference = SCORES.softmax(1) - F.one_hot(LABELS, 10)
    assert torch.allclose(Loss("mse", output)(GIVEN[output], LABELS), difference.square().mean())
    assert torch.allclose(Loss("l1", output)(GIVEN[output], LABELS), difference.abs().mean())


def test_label_smoothing_spreads_a_part_of_each_target_over_all_classes() -> None:
    targets = 0.7 * F.one_hot(LABELS, 10) + 0.3 / 10
    expected = -(targets * SCORES.log_softmax(1)).sum(1).mean()
    assert torch.allclose(Loss("cross_entropy", "logits", label_smoothing=0.3)(SCORES, LABELS), expected)


def test_cross_entropy_on_softmax_is_the_articles_double_softmax_and_cannot_fall_below_1_46() -> None:
    perfect = F.one_hot(LABELS, 10).float()
    assert Loss("cross_entropy", "softmax")(perfect, LABELS) == pytest.approx(1.4612, abs=1e-4)


@pytest.mark.parametrize("output", ["logits", "softmax", "relu_softmax"])
def test_nll_without_log_probabilities_is_refused_with_the_reason(output: str) -> None:
    with pytest.raises(ValueError, match="log-probabilities"):
        MLP(hidden=[8], output=output, loss="nll")


def test_a_network_without_an_optimizer_says_so() -> None:
    with pytest.raises(ValueError, match="without an optimizer"):
        CNN().configure_optimizers()
