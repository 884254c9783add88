"""Networks have the expected number of parameters. Outputs and losses match their definitions."""

import inspect
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional as F

from mnist_lit import models
from mnist_lit.build import build_model
from mnist_lit.losses import L1, MSE, NLL, CrossEntropy, Loss, probabilities
from mnist_lit.models import CNN, MLP, DigitClassifier
from tests.configs import PROJECT, compose_config

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
        ("convnet model.stride=2 model.channels=[4,4,4,4]", 1_070),
        ("fast_cnn", 108_890),
        ("fast_cnn model.crop=2", 72_026),
    ],
)
def test_each_network_has_the_expected_number_of_parameters(name: str, parameters: int) -> None:
    model = build_model(compose_config(*f"model={name}".split()), steps_per_epoch=10)
    assert model.parameter_count == parameters
    assert model(IMAGES).shape == (5, 10)


@pytest.mark.parametrize("path", sorted((PROJECT / "conf" / "model").glob("*.yaml")), ids=lambda path: path.stem)
def test_yaml_and_constructor_have_the_same_defaults(path: Path) -> None:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    network = getattr(models, values.pop("_target_").rpartition(".")[2])
    signatures = inspect.signature(network).parameters | inspect.signature(DigitClassifier).parameters
    for name, value in values.items():
        assert signatures[name].default in (value, inspect.Parameter.empty)


@pytest.mark.parametrize("batch_size", [1, 200])
@pytest.mark.parametrize("network", [MLP(hidden=[32]), CNN()], ids=["mlp", "cnn"])
def test_a_network_returns_ten_scores_for_each_image(network: DigitClassifier, batch_size: int) -> None:
    assert network(torch.zeros(batch_size, 1, 28, 28)).shape == (batch_size, 10)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "leaky_relu", "none"])
def test_pooling_before_the_activation_equals_pooling_after_it(activation: str) -> None:
    network = CNN(activation=activation).network
    conv, pool, act = network[0], network[1], network[2]
    assert torch.equal(act(pool(conv(IMAGES))), pool(act(conv(IMAGES))))


def test_a_deep_network_without_activation_is_linear() -> None:
    model = MLP(hidden=[64, 64, 64], activation="none")
    with torch.no_grad():
        zero = model(torch.zeros_like(IMAGES))
        assert torch.allclose(model(2 * IMAGES) - zero, 2 * (model(IMAGES) - zero), atol=1e-5)


@pytest.mark.parametrize("output", ["logits", "log_softmax", "softmax"])
def test_all_outputs_give_the_same_probabilities(output: str) -> None:
    torch.manual_seed(0)
    reference = MLP(hidden=[32])
    model = MLP(hidden=[32], output=output)
    model.load_state_dict(reference.state_dict())
    assert torch.allclose(probabilities(model.output, model(IMAGES)), reference(IMAGES).softmax(1), atol=1e-6)


SCORES = torch.randn(5, 10, generator=torch.Generator().manual_seed(1))
OUTPUTS = {"logits": SCORES, "log_softmax": SCORES.log_softmax(1), "softmax": SCORES.softmax(1)}


def loss_for(loss: Loss, output: str) -> Loss:
    """Prepares the loss as a network with this output does."""
    assert loss.objection(output) is None
    loss.output = output
    return loss


@pytest.mark.parametrize("output", ["logits", "log_softmax"])
def test_cross_entropy_and_nll_are_the_negative_log_likelihood(output: str) -> None:
    expected = -SCORES.softmax(1)[torch.arange(5), LABELS].log().mean()
    assert torch.allclose(loss_for(CrossEntropy(), output)(OUTPUTS[output], LABELS), expected)
    if output == "log_softmax":
        assert torch.allclose(loss_for(NLL(), output)(OUTPUTS[output], LABELS), expected)


@pytest.mark.parametrize("output", ["logits", "log_softmax", "softmax"])
def test_mse_and_l1_compare_probabilities_with_one_hot_targets(output: str) -> None:
    difference = SCORES.softmax(1) - F.one_hot(LABELS, 10)
    assert torch.allclose(loss_for(MSE(), output)(OUTPUTS[output], LABELS), difference.square().mean())
    assert torch.allclose(loss_for(L1(), output)(OUTPUTS[output], LABELS), difference.abs().mean())


def test_label_smoothing_spreads_a_part_of_each_target_over_all_classes() -> None:
    targets = 0.7 * F.one_hot(LABELS, 10) + 0.3 / 10
    expected = -(targets * SCORES.log_softmax(1)).sum(1).mean()
    smoothed = CrossEntropy(label_smoothing=0.3)
    assert torch.allclose(smoothed(SCORES, LABELS), expected)
    plain = -(SCORES.log_softmax(1))[torch.arange(5), LABELS].mean()
    assert torch.allclose(smoothed.evaluation()(SCORES, LABELS), plain)


@pytest.mark.parametrize("output", ["softmax", "relu_softmax"])
def test_cross_entropy_of_softmax_cannot_fall_below_1_46_and_warns(output: str) -> None:
    perfect = F.one_hot(LABELS, 10).float()
    loss = loss_for(CrossEntropy(), output)
    assert loss(perfect, LABELS) == pytest.approx(1.4612, abs=1e-4)
    assert "1.46" in str(loss.warning(output))
    assert loss.warning("logits") is None


@pytest.mark.parametrize("output", ["logits", "softmax", "relu_softmax"])
def test_nll_without_log_probabilities_is_an_error_with_its_reason(output: str) -> None:
    with pytest.raises(ValueError, match="log-probabilities"):
        MLP(hidden=[8], output=output, loss=NLL())


def test_training_without_an_optimizer_is_an_error() -> None:
    with pytest.raises(ValueError, match="without an optimizer"):
        CNN().configure_optimizers()
