"""docs/extending.md: every example is written to the files that it names, and every command runs."""

import csv
import gzip
import hashlib
import re
import shlex
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning.pytorch.callbacks
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits as load_sklearn_digits

from mnist_lit.errors import UserError
from mnist_lit.models.checkpoint_file import load_classifier, read_checkpoint
from mnist_lit.run_folder import read_result
from tests.configs import PROJECT, check_config
from tests.conftest import Outcome
from tests.selection import slow_except

Command = Callable[..., Outcome]
PAGE = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")
FILE = re.compile(r"```(?:python|yaml)\n# (mine/\S+)\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"```text\n(PYTHONPATH=mine python train\.py [^\n]*)\n```")
COMMANDS = list(dict.fromkeys(COMMAND.findall(PAGE)))
SMALL = ["model=mlp_128_64", "data=digits", "trainer=cpu", "trainer.max_epochs=2", "callbacks=none"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of the page, and data for its two data sets."""
    for name, content in FILE.findall(PAGE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    raw = load_sklearn_digits()
    images = [np.asarray(Image.fromarray((image * 15).astype(np.uint8)).resize((28, 28))) for image in raw.images]
    write_idx(tmp_path / "data" / "Letters" / "raw", images, raw.target)
    for number, (image, label) in enumerate(zip(images[:600], raw.target, strict=False)):
        (tmp_path / "pictures" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "pictures" / str(label) / f"{number}.png")
    return tmp_path


def write_idx(folder: Path, images: list[np.ndarray], labels: np.ndarray, count: int | None = None) -> None:
    folder.mkdir(parents=True)
    for part, chosen in (("train", slice(0, 1000)), ("t10k", slice(1000, 1300))):
        pixels, classes = np.stack(images[chosen]), labels[chosen].astype(np.uint8)
        header = struct.pack(">4i", 2051, len(pixels), 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, len(classes)) + classes.tobytes())


def paste(train_py: Command, command: str, *overrides: str) -> Outcome:
    """Runs a command of the page, with options that make it quick unless the command has them."""
    _, _, *words = shlex.split(command)
    groups = {word.split("=")[0] for word in [*words, *overrides]}
    quick = [option for option in [*SMALL, "hydra.run.dir=run"] if option.split("=")[0] not in groups]
    return train_py(*words[1:], *quick, *overrides, PYTHONPATH="mine")


def test_the_page_shows_all_eight_kinds() -> None:
    groups = {Path(name).parent.name for name, _ in FILE.findall(PAGE) if name.endswith(".yaml")}
    assert groups == {"optimizer", "scheduler", "loss", "data", "callbacks", "logger", "model"}
    assert len(COMMANDS) == 11


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: " ".join(line.split()[4:]))
def test_every_command_of_the_page_runs(script: Command, folder: Path, line: str) -> None:
    done = paste(script, line)
    assert done.code == 0, done.output
    result = read_result(folder / "run")
    assert result["status"] == "completed"
    assert result["test_acc"] > 0.2
    assert "--config-dir" in result["command"]
    config = yaml.safe_load((folder / "run" / "config.yaml").read_text(encoding="utf-8"))
    for option in shlex.split(line)[5:]:
        key, _, value = option.partition("=")
        if "." in key:
            assert str(value_of(config, key)) == value
    if "callbacks=mine" in line:
        assert done.output.count("norm of the weights") == 2
        assert "averaging_state" in read_checkpoint(folder / "run" / "checkpoints" / "best.ckpt")
    if "logger=mine" in line:
        assert list(folder.glob("run/lightning/version_0/metrics.csv"))
    if "data=letters" in line:
        assert result["data"]["name"] == "letters"
        refused = tool(folder, "predict", "run", "pictures/0")
        assert "is trained on letters (A, B, …), so it reads no digits" in refused
        assert re.search(r"^ +A +30 ", tool(folder, "evaluate", "run"), re.MULTILINE)


def value_of(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


def tool(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "mnist_lit", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_checkpoint_needs_neither_loss_nor_optimizer_nor_data_set(train_py: Command, folder: Path) -> None:
    done = paste(
        train_py, "PYTHONPATH=mine python train.py --config-dir mine/conf loss=focal optimizer=lion scheduler=warm_up"
    )
    assert done.code == 0, done.output
    for name in ("my_loss", "my_optimizer", "my_scheduler"):
        (folder / "mine" / f"{name}.py").unlink()
    checkpoint = folder / "run" / "checkpoints" / "best.ckpt"
    assert read_checkpoint(checkpoint)["loss"] == {"_target_": "my_loss.Focal", "gamma": 2.0}
    assert load_classifier(checkpoint)(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


BAD_CLASSES = """
import torch
from lightning.pytorch import Callback
from torch.optim.lr_scheduler import LRScheduler
from mnist_lit.data.datamodule import SklearnDigitsDataModule
from mnist_lit.data.datasets import Split, Splits
from mnist_lit.losses import CrossEntropy, Loss
from mnist_lit.models import DigitClassifier


class Vector(Loss):
    def forward(self, outputs, labels):
        return outputs.sum(1)


class EvaluationFails(CrossEntropy):
    def evaluation(self):
        raise RuntimeError("no evaluation today")


class EvaluationIsNone(CrossEntropy):
    def evaluation(self):
        return None


class EvaluatesVector(CrossEntropy):
    def evaluation(self):
        return Vector()


class WarningFails(CrossEntropy):
    def warning(self, output):
        raise RuntimeError("no warning today")


class WarningIsNumber(CrossEntropy):
    def warning(self, output):
        return 3


class ObjectionIsTrue(CrossEntropy):
    def objection(self, output):
        return True


class Detached(CrossEntropy):
    def forward(self, outputs, labels):
        return super().forward(outputs, labels).detach()


class Unfinished(Loss):
    pass


class Frozen(DigitClassifier):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)).requires_grad_(False)


class Empty(DigitClassifier):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.AdaptiveAvgPool1d(10))


class NoStep(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        raise NotImplementedError


class NoRate(torch.optim.SGD):
    def __init__(self, params):
        torch.optim.Optimizer.__init__(self, params, {})

    def step(self, closure=None):
        pass


class Raises(Callback):
    def __init__(self):
        raise RuntimeError("no license found")


class EndsEarly(LRScheduler):
    def __init__(self, optimizer, last):
        self.last = last
        super().__init__(optimizer)

    def get_lr(self):
        if self.last_epoch > self.last:
            raise KeyError(self.last_epoch)
        return [group["lr"] for group in self.optimizer.param_groups]


class Printing(SklearnDigitsDataModule):
    def load(self):
        print("load is called")
        return super().load()


class OwnLoader(Printing):
    def train_dataloader(self):
        return super().train_dataloader()


class OwnTransfer(Printing):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch


class MissingFile(Printing):
    def load(self):
        open("no/such/file")


class NoDownload(Printing):
    def prepare_data(self):
        raise RuntimeError("no connection")


class Tuple(Printing):
    def load(self):
        return 1, 2, 3


class FloatImages(Printing):
    def load(self):
        splits = super().load()
        return Splits(Split(splits.train.images.float(), splits.train.labels), splits.val, splits.test)


class NeedsMore(torch.optim.SGD):
    def __init__(self, params, lr, secret):
        super().__init__(params, lr)


class NoKeywords(DigitClassifier):
    def __init__(self, width=3):
        super().__init__()


class DropsKeywords(DigitClassifier):
    def __init__(self, hidden=(), activation="relu", **kwargs):
        super().__init__()
        self.network = torch.nn.Flatten()


class DropsDataKeywords(SklearnDigitsDataModule):
    def __init__(self, **kwargs):
        super().__init__()


class Exits(Callback):
    def __init__(self):
        raise SystemExit(0)


class CountsBatches(Callback):
    batches = 0

    def on_train_batch_end(self, *arguments):
        self.batches += 1

    def on_train_end(self, trainer, pl_module):
        print(f"counted {self.batches} batches in {trainer.global_step} steps")


class LogsMetrics(Callback):
    def on_train_batch_end(self, trainer, pl_module, *arguments):
        pl_module.log("at_batch", float(trainer.global_step))

    def on_train_epoch_end(self, trainer, pl_module):
        pl_module.log("at_epoch", float(trainer.global_step))


class ExitsInTraining(Callback):
    def on_train_batch_end(self, *arguments):
        raise SystemExit(0)


def function():
    raise SystemExit("it was called")
"""

BAD = [
    (["optimizer._target_=bad.NeedsMore"], "optimizer.betas: there is no such option; bad.NeedsMore takes lr, secret"),
    (["optimizer._target_=bad.NeedsMore"], "optimizer.secret: is missing"),
    (["loss._target_=bad.Vector", "~loss.label_smoothing"], "bad.Vector: forward returned [2]; should be a scalar"),
    (["+callbacks.x._target_=bad.Raises"], "callbacks.x._target_=bad.Raises: RuntimeError: no license"),
    (["+callbacks.x._target_=bad.NeedsMore"], "should be a class derived from lightning.pytorch.Callback"),
    (["+logger.x._target_=bad.function"], "should be a class derived from lightning.pytorch.loggers.Logger"),
    (["loss._target_=bad.function"], "bad.function: should be a class derived from mnist_lit.losses.Loss"),
    (["loss._target_=nowhere.Loss"], "nowhere.Loss: No module named 'nowhere'. Is its folder on PYTHONPATH?"),
    (["model._target_=bad.NoKeywords"], "its constructor needs **kwargs"),
    (["model._target_=bad.DropsKeywords"], "bad.DropsKeywords: has to pass **kwargs to super().__init__"),
    (["data._target_=bad.DropsDataKeywords", "data.batch_size=5"], "has to pass **kwargs to super().__init__"),
    (["+callbacks.x._target_=bad.Exits"], "callbacks.x._target_=bad.Exits: called sys.exit(0)"),
    (["loss._target_=exits_when_imported.Loss"], "exits_when_imported.Loss: called sys.exit(0)"),
    (["+model.loss=x", "+model.gradient_clip_val=1"], "model.gradient_clip_val: the run sets it"),
    (["model.activation=foo", "optimizer.eps=-1"], "optimizer.eps=-1: torch.optim.Adam: Invalid epsilon value: -1"),
    (["model.activation=foo", "optimizer.eps=-1"], "model.activation=foo"),
    (["optimizer=lbfgs"], "its step() needs closure"),
    (["optimizer=sparse"], "SparseAdam does not support dense gradients"),
    (["loss=own", "loss._target_=bad.EvaluationFails"], "loss._target_=bad.EvaluationFails: RuntimeError: no evaluat"),
    (["loss=own", "loss._target_=bad.EvaluationIsNone"], "bad.EvaluationIsNone: evaluation() returned NoneType"),
    (["loss=own", "loss._target_=bad.EvaluatesVector"], "bad.EvaluatesVector: evaluation().forward returned [2]"),
    (["loss=own", "loss._target_=bad.WarningFails"], "loss._target_=bad.WarningFails: RuntimeError: no warning"),
    (["loss=own", "loss._target_=bad.WarningIsNumber"], "bad.WarningIsNumber: warning() returned int; should be text"),
    (["loss=own", "loss._target_=bad.ObjectionIsTrue"], "bad.ObjectionIsTrue: objection() returned bool; should be"),
    (["loss=own", "loss._target_=bad.Detached"], "loss._target_=bad.Detached: forward returned a value without a gra"),
    (["loss=own", "loss._target_=bad.Unfinished"], "loss._target_=bad.Unfinished: forward is not implemented"),
    (["model._target_=bad.Frozen", "~model.hidden", "~model.activation"], "bad.Frozen model.output=logits: has no par"),
    (["model._target_=bad.Empty", "~model.hidden", "~model.activation"], "bad.Empty model.output=logits: has no param"),
    (["optimizer=own"], "optimizer._target_=bad.NoStep: step is not implemented"),
    (["optimizer=own", "optimizer._target_=bad.NoRate"], "optimizer._target_=bad.NoRate: its groups of parameters"),
    (["data._target_=bad.OwnLoader"], "bad.OwnLoader: a run takes what load returns and would not use its train_data"),
    (["data._target_=bad.OwnTransfer"], "bad.OwnTransfer: a run takes what load returns and would not use its"),
    (["data._target_=bad.MissingFile"], "data._target_=bad.MissingFile: FileNotFoundError"),
    (["data._target_=bad.NoDownload"], "data._target_=bad.NoDownload: RuntimeError: no connection"),
    (["data._target_=bad.Tuple"], "data._target_=bad.Tuple: load() returned tuple; should be Splits"),
    (["data._target_=bad.FloatImages"], "bad.FloatImages: train images are [1257, 1, 28, 28] torch.float32"),
    (["data._target_=bad.Printing", "~data.name"], "data.name: is missing; its default is MNIST's"),
    (["data._target_=bad.Printing", "~data.mean", "~data.std"], "data.std: is missing"),
    (["scheduler=onecycle", "+scheduler.total_steps=39"], "scheduler.total_steps=39: torch.optim.lr_scheduler.One"
     "CycleLR cannot make the 40 steps of the run (20 an epoch)"),
    (["scheduler=own", "scheduler.last=39"], "scheduler.last=39: bad.EndsEarly cannot make the 40 steps of the run"),
    (["scheduler=plateau"], "only schedules that advance without a metric work here"),
]  # fmt: skip


def write_classes(folder: Path) -> None:
    """`BAD_CLASSES`, and a YAML file for each choice."""
    (folder / "mine").mkdir()
    (folder / "mine" / "bad.py").write_text(BAD_CLASSES, encoding="utf-8")
    for choice, content in {
        "optimizer/lbfgs": "torch.optim.LBFGS\nlr: 1.0",
        "optimizer/sparse": "torch.optim.SparseAdam\nlr: 1.0",
        "optimizer/own": "bad.NoStep",
        "scheduler/plateau": "torch.optim.lr_scheduler.ReduceLROnPlateau",
        "scheduler/own": "bad.EndsEarly\nlast: 40",
        "loss/own": "bad.EvaluationFails",
    }.items():
        path = folder / "mine" / "conf" / f"{choice}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"_target_: {content}\n", encoding="utf-8")


@pytest.mark.parametrize(("overrides", "message"), BAD, ids=str)
def test_a_bad_class_is_one_clear_error_and_leaves_nothing(
    script: Command, tmp_path: Path, overrides: list[str], message: str
) -> None:
    write_classes(tmp_path)
    (tmp_path / "mine" / "exits_when_imported.py").write_text("import sys\n\nsys.exit(0)\n", encoding="utf-8")
    done = paste(script, "PYTHONPATH=mine python train.py --config-dir mine/conf", *overrides)
    assert done.code == 1, done.output
    assert message in done.output
    assert "Traceback" not in done.output
    assert "it was called" not in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "choices", [["scheduler=onecycle", "+scheduler.total_steps=40"], ["scheduler=own"]], ids=lambda choices: choices[0]
)
def test_a_schedule_of_the_length_of_the_run_works(script: Command, tmp_path: Path, choices: list[str]) -> None:
    write_classes(tmp_path)
    done = paste(script, "PYTHONPATH=mine python train.py --config-dir mine/conf", *choices)
    assert done.code == 0, done.output


@pytest.mark.slow
def test_a_data_set_is_loaded_once_and_checked_when_a_run_is_resumed(train_py: Command, tmp_path: Path) -> None:
    write_classes(tmp_path)
    done = paste(train_py, "PYTHONPATH=mine python train.py data._target_=bad.Printing", "scheduler=none")
    assert done.code == 0, done.output
    assert done.output.count("load is called") == 1
    result = (tmp_path / "run" / "result.json").read_bytes()
    broken = BAD_CLASSES.replace('print("load is called")', 'raise ValueError("the disk is gone")')
    (tmp_path / "mine" / "bad.py").write_text(broken, encoding="utf-8")
    resumed = train_py("resume=run", "trainer.max_epochs=3", PYTHONPATH="mine")
    assert resumed.code == 1, resumed.output
    assert "error: data._target_=bad.Printing: the disk is gone" in resumed.output
    assert (tmp_path / "run" / "result.json").read_bytes() == result


@pytest.mark.parametrize("flag", [["--config-dir", "mime"], ["-cd", "mime"], ["--config-dir=mime"]], ids=" ".join)
def test_a_config_dir_that_does_not_exist_is_one_clear_error(
    train_py: Command, tmp_path: Path, flag: list[str]
) -> None:
    done = train_py(*flag, *SMALL, "optimizer=lion")
    assert (done.code, done.output) == (1, "error: --config-dir mime: there is no such folder\n")
    assert [*tmp_path.iterdir()] == []


def test_a_class_that_exits_in_training_fails_the_run(train_py: Command, tmp_path: Path) -> None:
    write_classes(tmp_path)
    done = paste(train_py, "PYTHONPATH=mine python train.py +callbacks.x._target_=bad.ExitsInTraining")
    assert done.code == 1, done.output
    assert "error: a class of the config ended the training: called sys.exit(0)" in done.output
    assert "Traceback" not in done.output


def test_a_run_that_ends_before_its_first_validation_is_one_clear_error(train_py: Command, tmp_path: Path) -> None:
    timer = "+callbacks.x._target_=lightning.pytorch.callbacks.Timer"
    done = paste(train_py, "PYTHONPATH=mine python train.py", timer, "+callbacks.x.duration='00:00:00:00'")
    assert done.code == 1, done.output
    assert "training ended before the first validation" in done.output
    assert "Traceback" not in done.output


def test_a_callback_sees_every_batch(train_py: Command, tmp_path: Path) -> None:
    write_classes(tmp_path)
    done = paste(train_py, "PYTHONPATH=mine python train.py +callbacks.x._target_=bad.CountsBatches")
    assert done.code == 0, done.output
    assert "counted 40 batches in 40 steps" in done.output


# Every callback of Lightning: its options, and the error before the run; None if it works.
LIGHTNING = [
    ("RichProgressBar", {}, "a run has one progress bar, its own"),
    ("TQDMProgressBar", {}, "a run has one progress bar, its own"),
    ("ProgressBar", {}, "a run has one progress bar, its own"),
    ("GradientAccumulationScheduler", {"scheduling": "{0: 2}"}, "trainer.accumulate_grad_batches=N"),
    ("BatchSizeFinder", {}, "set data.batch_size instead"),
    ("LearningRateFinder", {}, "train.py -m +sweep=learning_rate_search"),
    ("BackboneFinetuning", {}, "callbacks.x._target_=lightning.pytorch.callbacks.BackboneFinetuning: AttributeError"),
    ("BaseFinetuning", {}, "freeze_before_training is not implemented"),
    ("Callback", {}, "should be a class derived from lightning.pytorch.Callback"),
    ("ThroughputMonitor", {}, "callbacks.x.batch_size_fn: is missing"),
    ("ThroughputMonitor", {"batch_size_fn": "len"}, "callbacks.x.batch_size_fn=len: TypeError"),
    ("EarlyStopping", {"monitor": "nothing"}, "EarlyStopping callbacks.x.monitor=nothing: "),
    ("ModelCheckpoint", {"monitor": "nothing"}, "ModelCheckpoint callbacks.x.monitor=nothing: "),
    ("LearningRateMonitor", {"logging_interval": "never"}, "callbacks.x.logging_interval=never: "),
    ("DeviceStatsMonitor", {}, None if find_spec("psutil") else "`psutil` is not installed"),
    ("EarlyStopping", {"monitor": "val_loss"}, None),
    ("ModelCheckpoint", {"monitor": "train_loss", "dirpath": "mine"}, None),
    ("OnExceptionCheckpoint", {"dirpath": "mine"}, None),
    ("StochasticWeightAveraging", {"swa_lrs": "0.01"}, "EMAWeightAveraging averages the weights, too"),
    ("ModelPruning", {"pruning_fn": "l1_unstructured", "amount": "0.1"}, None),
    ("Timer", {"duration": "'00:01:00:00'"}, None),
    *((name, {}, None) for name in (
        "BasePredictionWriter", "Checkpoint", "EMAWeightAveraging", "LambdaCallback", "LearningRateMonitor",
        "ModelSummary", "RichModelSummary", "SpikeDetection", "WeightAveraging",
    )),
]  # fmt: skip


def callback_overrides(name: str, options: dict[str, str], entry: str = "x") -> list[str]:
    target = f"+callbacks.{entry}._target_=lightning.pytorch.callbacks.{name}"
    return [target, *(f"+callbacks.{entry}.{option}={value}" for option, value in options.items())]


def test_the_list_has_every_callback_of_lightning() -> None:
    assert {name for name, _, _ in LIGHTNING} == set(lightning.pytorch.callbacks.__all__)


@pytest.mark.parametrize(("name", "options", "message"), LIGHTNING, ids=str)
def test_lightning_s_callbacks_are_tried_before_a_run_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, str], message: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(message)) if message else nullcontext():
        check_config(*SMALL, *callback_overrides(name, options))
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", [name for name, _, message in LIGHTNING if message is None])
@pytest.mark.slow
def test_the_callbacks_that_pass_work_in_a_run(script: Command, name: str) -> None:
    options = next(options for other, options, message in LIGHTNING if other == name and message is None)
    done = script(*SMALL, *callback_overrides(name, options))
    assert done.code == 0, done.output
    assert done.result["status"] == "completed"


def test_a_metric_of_an_own_callback_can_be_monitored(train_py: Command, tmp_path: Path) -> None:
    write_classes(tmp_path)
    stop = callback_overrides("EarlyStopping", {"monitor": "at_epoch"}, "stop")
    done = paste(train_py, "PYTHONPATH=mine python train.py +callbacks.x._target_=bad.LogsMetrics", *stop)
    assert done.code == 0, done.output


@pytest.mark.slow
@pytest.mark.parametrize("option", ["steps_per_execution=7", "steps_per_execution=1", "accumulate_grad_batches=3"])
def test_what_a_callback_logs_lands_at_the_optimizer_step(script: Command, tmp_path: Path, option: str) -> None:
    write_classes(tmp_path)
    entry = "+callbacks.x._target_=bad.LogsMetrics"
    done = paste(script, f"PYTHONPATH=mine python train.py {entry} scheduler=none trainer.{option}")
    assert done.code == 0, done.output
    resumed = script("resume=run", "trainer.max_epochs=3", PYTHONPATH="mine")
    assert resumed.code == 0, resumed.output
    with (tmp_path / "run" / "metrics.csv").open(encoding="utf-8") as stream:
        rows = [*csv.DictReader(stream)]
    for name in ("at_batch", "at_epoch"):
        logged = {int(row["step"]): float(row[name]) for row in rows if row[name]}
        assert len(logged) >= 3
        assert [*logged] == [*logged.values()]


def test_lightning_s_loggers_are_built(train_py: Command, tmp_path: Path) -> None:
    done = paste(
        train_py, "PYTHONPATH=mine python train.py +logger.x._target_=lightning.pytorch.loggers.TensorBoardLogger"
    )
    assert done.code == 0, done.output
    assert [*tmp_path.glob("run/lightning_logs/version_0/events.*")]


def spoil_magic(content: bytes) -> bytes:
    return struct.pack(">i", 2052) + content[4:]


def spoil_count(content: bytes) -> bytes:
    return content[:4] + struct.pack(">i", 7) + content[8:]


def spoil_shape(content: bytes) -> bytes:
    return content[:8] + struct.pack(">2i", 14, 56) + content[16:]


def cut(content: bytes) -> bytes:
    return content[:-100]


def label_twelve(content: bytes) -> bytes:
    return content[:-1] + bytes([12])


def one_less(content: bytes) -> bytes:
    return content[:4] + struct.pack(">i", struct.unpack(">i", content[4:8])[0] - 1) + content[8:-1]


def empty_images(content: bytes) -> bytes:
    return struct.pack(">4i", 2051, 0, 28, 28)


def empty_labels(content: bytes) -> bytes:
    return struct.pack(">2i", 2049, 0)


BAD_FILES: list[tuple[Any, str]] = [
    ({"train-images-idx3-ubyte": spoil_magic}, "its magic number is 2052; IDX images have 2051"),
    ({"train-images-idx3-ubyte": spoil_count}, "its header says 7 entries"),
    ({"train-images-idx3-ubyte": spoil_shape}, "its images are 14 × 56; should be 28 × 28"),
    ({"train-images-idx3-ubyte": cut}, "its header says 1,000 entries"),
    ({"train-labels-idx1-ubyte": label_twelve}, "has the label 12; labels should be 0 to 9"),
    ({"t10k-labels-idx1-ubyte": label_twelve}, "has the label 12; labels should be 0 to 9"),
    ({"train-labels-idx1-ubyte": one_less}, "there are 1,000 train images, but 999 train labels"),
    ({"t10k-labels-idx1-ubyte": one_less}, "there are 300 test images, but 299 test labels"),
    ({"t10k-images-idx3-ubyte": empty_images, "t10k-labels-idx1-ubyte": empty_labels}, "has no images"),
    ({"train-images-idx3-ubyte": empty_images, "train-labels-idx1-ubyte": empty_labels}, "has no images"),
]


@pytest.mark.parametrize(
    ("spoiled", "message"),
    slow_except(BAD_FILES, BAD_FILES[0], BAD_FILES[2], BAD_FILES[4], BAD_FILES[6]),
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_bad_data_file_is_one_clear_error_and_leaves_nothing(
    script: Command, folder: Path, spoiled: dict[str, Callable[[bytes], bytes]], message: str
) -> None:
    for name, spoil in spoiled.items():
        path = folder / "data" / "Letters" / "raw" / name
        path.write_bytes(spoil(path.read_bytes()))
    done = paste(script, "PYTHONPATH=mine python train.py --config-dir mine/conf data=letters")
    assert done.code == 1
    assert message in done.output
    assert str(Path("data", "Letters", "raw")) in done.output
    assert "Traceback" not in done.output
    assert not (folder / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (["data=letters", "data.val_size=100,995"], "data.val_size=995: should be at most 990"),
        (["data=letters", "data.batch_size=10,950"], "data.batch_size=950: should be at most 900"),
        (["data=letters,spoiled"], "spoiled-labels: has the label 12; labels should be 0 to 9"),
        (["data=pictures", "data.batch_size=10,950"], "data.batch_size=950: should be at most 400"),
        (["data=pictures", "trainer.accumulate_grad_batches=1,500"], "trainer.accumulate_grad_batches=500: should be"),
    ],
    ids=str,
)
def test_a_sweep_checks_the_data_of_every_job(
    train_py: Command, folder: Path, choices: list[str], message: str
) -> None:
    raw, yamls = folder / "data" / "Letters" / "raw", folder / "mine" / "conf" / "data"
    (raw / "spoiled-labels").write_bytes(label_twelve((raw / "train-labels-idx1-ubyte").read_bytes()))
    spoiled = (yamls / "letters.yaml").read_text(encoding="utf-8").replace("train-labels-idx1-ubyte", "spoiled-labels")
    (yamls / "spoiled.yaml").write_text(spoiled, encoding="utf-8")
    before = sorted(folder.rglob("*"))
    done = paste(train_py, "PYTHONPATH=mine python train.py --config-dir mine/conf -m", *choices)
    assert done.code == 1, done.output
    assert message in done.output
    assert "Traceback" not in done.output
    assert [path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts] == before


@pytest.mark.slow
def test_a_file_whose_checksum_is_unknown_is_compared_with_its_archive_but_not_replaced(
    train_py: Command, folder: Path
) -> None:
    raw = folder / "data" / "Letters" / "raw"
    path = folder / "mine" / "conf" / "data" / "letters.yaml"
    letters = yaml.safe_load(path.read_text(encoding="utf-8"))
    for file in letters["files"].values():
        archive = gzip.compress((raw / file["name"]).read_bytes(), mtime=0)
        (raw / f"{file['name']}.gz").write_bytes(archive)
        file["archive_md5"] = hashlib.md5(archive).hexdigest()
    path.write_text(yaml.safe_dump(letters), encoding="utf-8")
    labels = raw / "train-labels-idx1-ubyte"
    good = labels.read_bytes()
    other = good[:-1] + bytes([(good[-1] + 1) % 10])
    labels.write_bytes(other)
    letters = "PYTHONPATH=mine python train.py --config-dir mine/conf data=letters"
    refused = paste(train_py, letters)
    assert refused.code == 1
    assert "this program did not write them: train-labels-idx1-ubyte. They stay" in refused.output
    assert labels.read_bytes() == other
    labels.unlink()
    assert paste(train_py, letters).code == 0
    assert labels.read_bytes() == good, "it is unpacked from its archive"
