"""This version resumes, evaluates, exports and reports a run of release 0.2.0."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import nn
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.config import ClassSection, TrainConfig, parse_config
from mnist_lit.errors import UserError
from mnist_lit.evaluation.run_evaluation import evaluate_run
from mnist_lit.models import CNN, ConvNet, DigitClassifier, FastCNN
from mnist_lit.models.checkpoint_file import holds_network_of, read_checkpoint, write_checkpoint
from mnist_lit.models.classifier import class_path
from mnist_lit.run_folder import CHECKPOINTS, CONFIG, LAST, read_config, read_result
from mnist_lit.training.run import train
from tests.configs import compose_config
from tests.conftest import TINY, Outcome, Run

OLD_RUN = Path(__file__).parent.parent / "runs_of_earlier_releases" / "0.2.0"


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """A copy of the stored run, so that a test can change it."""
    return Path(shutil.copytree(OLD_RUN, tmp_path / "run"))


def test_the_stored_run_is_small() -> None:
    assert sum(path.stat().st_size for path in OLD_RUN.rglob("*")) < 300_000


def test_an_old_run_is_evaluated_with_the_same_result(old_run: Path) -> None:
    outcome, result = evaluate_run(old_run), read_result(old_run)
    assert outcome.test_acc == pytest.approx(result["test_acc"], abs=1e-6)
    assert outcome.test_loss == pytest.approx(result["test_loss"], abs=1e-4)


def test_an_old_run_is_resumed(old_run: Path, train_py: Callable[..., Outcome]) -> None:
    assert "is complete: 2 of 2 epochs" in train_py(f"resume={old_run}").output
    longer = train_py(f"resume={old_run}", "trainer.max_epochs=3")
    assert longer.code == 0, longer.output
    result = read_result(old_run)
    assert (result["status"], result["epochs"], result["global_step"]) == ("completed", 3, 60)
    assert result["command"].startswith("python train.py data=digits")
    assert len((old_run / "metrics.csv").read_text(encoding="utf-8").splitlines()) == 1 + 4


def test_an_old_run_is_exported_and_reported(old_run: Path, tmp_path: Path) -> None:
    exported = CliRunner().invoke(
        app, ["export", str(old_run), "--format", "pt2", "--out", str(tmp_path / "model.pt2")]
    )
    assert exported.exit_code == 0, exported.output
    assert "0 predictions differ" in exported.output
    reported = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert f"{read_result(old_run)['test_acc']:.2%}" in reported.output


def optional_options(section: Any = TrainConfig, *path: str) -> Iterator[tuple[str, ...]]:
    """The path of every option that a config of an earlier release may lack."""
    for name, field in section.model_fields.items():
        if (*path, name) not in (("data",), ("model",), ("optimizer",)):
            yield (*path, name)
        if hasattr(field.annotation, "model_fields") and field.annotation is not ClassSection:
            yield from optional_options(field.annotation, *path, name)


@pytest.mark.parametrize("path", [*optional_options(), ("data", "classes"), ("data", "split_seed")], ids=".".join)
def test_an_old_config_is_read_without_a_newer_option(path: tuple[str, ...], old_run: Path) -> None:
    config = yaml.safe_load((old_run / CONFIG).read_text(encoding="utf-8"))
    section = config
    for name in path[:-1]:
        section = section[name]
    section.pop(path[-1], None)  # the oldest release lacks the newest options
    (old_run / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    assert isinstance(read_config(old_run), TrainConfig)


def test_a_missing_option_gets_the_default_of_the_schema() -> None:
    config = yaml.safe_load((OLD_RUN / CONFIG).read_text(encoding="utf-8"))
    del config["trainer"]["precision"], config["loss"], config["callbacks"]
    read = parse_config(config)
    assert read.trainer.precision == "32-true"
    assert read.loss.target == "mnist_lit.losses.CrossEntropy"
    assert read.callbacks.switches["graph"] is True


class Wider(FastCNN):
    """A network of one's own, whose option the checkpoints of an earlier day lack."""

    def __init__(self, *, factor: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network.append(nn.Linear(10, 10 * factor))


NEWER_OPTIONS = [
    (ConvNet, {"channels": [2]}, {"dropout": 0.5}),
    (ConvNet, {"channels": [2]}, {"stride": 2}),
    (FastCNN, {}, {"crop": 2}),
    (CNN, {}, {"activation": "tanh"}),
    (Wider, {}, {"factor": 2}),
    (Wider, {}, {"crop": 2}),
]


@pytest.mark.parametrize(("network", "options", "newer"), NEWER_OPTIONS)
def test_an_option_that_a_checkpoint_lacks_had_its_default(
    network: type[DigitClassifier], options: dict[str, Any], newer: dict[str, Any]
) -> None:
    today = network(**options)
    old = {name: value for name, value in today.hparams.items() if name not in newer}
    checkpoint = {"network": class_path(today), "hyper_parameters": old}
    assert holds_network_of(checkpoint, today)
    assert not holds_network_of(checkpoint, network(**options, **newer))


def test_a_run_from_before_an_option_is_resumed(run: Callable[..., Run]) -> None:
    network = ["model=fast_cnn", "scheduler=none"]
    old = run(*network)
    last = old.folder / CHECKPOINTS / LAST
    checkpoint = read_checkpoint(last)
    del checkpoint["hyper_parameters"]["crop"]
    with last.open("wb") as stream:
        write_checkpoint(checkpoint, stream)
    longer = train(compose_config(*TINY, *network, "trainer.max_epochs=3"), old.folder, {}, resume=True)
    assert longer["epochs"] == 3


CONFIG_OF_0_1 = "seed: 0\noptimizer: {name: adam, lr: 0.001}\nmodel: {_target_: mnist_lit.models.MLP, hidden: [4]}\n"


def test_a_run_of_release_0_1_is_one_clear_error(
    old_run: Path, train_py: Callable[..., Outcome], tmp_path: Path
) -> None:
    (old_run / CONFIG).write_text(CONFIG_OF_0_1, encoding="utf-8")
    message = f"{old_run} is a run of mnist-lit 0.1"
    resumed = train_py(f"resume={old_run}")
    assert resumed.code == 1
    for arguments in (["evaluate", str(old_run)], ["export", str(old_run)]):
        with pytest.raises(UserError, match=r"run of mnist-lit 0\.1"):
            CliRunner().invoke(app, arguments, catch_exceptions=False)
    reported = CliRunner().invoke(app, ["report", str(tmp_path)]).output
    for printed in (resumed.output, reported):
        assert message in printed
        assert "Traceback" not in printed
