"""`python train.py …` and `mnist-lit …` as a user runs them."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from torch import Tensor, nn
from typer.testing import CliRunner

from mnist_lit import doctor
from mnist_lit.class_checks import check_classes
from mnist_lit.cli import app
from mnist_lit.config import ClassSection
from mnist_lit.errors import UserError
from mnist_lit.models import MLP, DigitClassifier
from mnist_lit.models.checkpoint_file import load_classifier
from mnist_lit.run_folder import read_result, write_result
from mnist_lit.training.devices import choose_precision
from tests.configs import PROJECT, compose_config
from tests.conftest import OFFLINE, TINY, Outcome

Command = Callable[..., Outcome]
NO_TORCH = """
import runpy, sys
sys.argv = ['train.py', *sys.argv[2:]]
try:
    runpy.run_path({train!r}, run_name='__main__')
finally:
    heavy = {{'torch', 'lightning', 'torchvision'}} & set(sys.modules)
    print('IMPORTED', heavy)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["optimizer.lr=-1"], ["model._target_=os.system"]])
def test_help_config_and_errors_do_not_import_torch(arguments: list[str], tmp_path: Path) -> None:
    code = NO_TORCH.format(train=str(PROJECT / "train.py"))
    done = subprocess.run(
        [sys.executable, "-c", code, "x", *arguments], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
    )
    assert "IMPORTED set()" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["optimizr.lr=1"], "did you mean optimizer?"),
        (["lr=0.1"], "did you mean optimizer.lr?"),
        (["-m", "epochs=1,2"], "did you mean trainer.max_epochs?"),
        (["optimizer.learning_rate=1"], "legal: betas, eps, lr, weight_decay"),
        (["experimnt=best"], "did you mean experiment?"),
        (["data.num_workers=4"], "data.num_workers: there is no such option; the data live on the device"),
        (["ckpt_path=x"], "use resume=RUN"),
        (["trainer.val_check_interval=1"], "a run validates after each epoch"),
        (["optimizer.lr=abc"], "optimizer.lr=abc"),
        (["model=resnet"], "mlp_4x64"),
        (["data.val_size=70000", "data.batch_size=0"], "data.batch_size=0"),
        (["hydra.run.dir=/proc/here"], "/proc/here"),
        (["data.fallback=null"], "train-images-idx3-ubyte"),
        (["experiment=mlp_4x64"], "Without a download: data=digits"),
        (["loss=l1", "loss.label_smoothing=0.1"], "legal: none"),
        (["hydra.job.chdir=true"], "hydra.job.chdir"),
        (["model._target_=os.system"], "DigitClassifier"),
        (["model._target_=no_such.Network"], "PYTHONPATH"),
        (["data.batch_size=5000"], "at most 1257"),  # legal for MNIST, which is not available, but too large for digits
        pytest.param(
            ["trainer.precision=16-mixed"],
            "32-true or bf16-mixed",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        pytest.param(
            ["trainer=gpu"], "trainer=cpu", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
        ),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_no_folder(
    train_py: Command, tmp_path: Path, arguments: list[str], named: str
) -> None:
    done = train_py(*arguments)
    assert done.code != 0
    assert named in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (
            ["modle=cnn", "optimizer.foo=1"],
            ["modle: there is no such option", "optimizer.foo: there is no such option"],
        ),
        (
            ["model=resnet", "optimizer=lion"],
            ["model=resnet: there is no such choice", "optimizer=lion: there is no such"],
        ),
        (
            ["model=resnet", "trainer.epochs=1"],
            ["model=resnet: there is no such choice", "trainer.epochs: there is no such"],
        ),
        (["optimizer.lr=-1", "data.batch_size=0"], ["optimizer.lr=-1", "data.batch_size=0"]),
    ],
)
def test_an_error_names_every_wrong_option(train_py: Command, arguments: list[str], named: list[str]) -> None:
    done = train_py(*arguments)
    assert done.code == 1
    for words in named:
        assert words in done.output


@pytest.mark.parametrize(("last_words", "code"), [("exit_quickly()", 0), ("exit_quickly; sys.exit(3)", 3)])
def test_a_program_ends_quickly_but_runs_its_exit_handlers(last_words: str, code: int) -> None:
    program = f"""
from mnist_lit import process
import atexit, sys
class Split:
    def __del__(self): print("taken apart")
part = Split()
atexit.register(print, "what a library does last")
print("work")
process.{last_words}
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    assert ended.returncode == code
    assert ended.stdout.splitlines()[:2] == ["work", "what a library does last"]
    assert ("taken apart" in ended.stdout) is (code != 0)


def test_a_run_prints_and_logs_its_progress(train_py: Command) -> None:
    done = train_py(*TINY)
    assert done.code == 0, done.output
    for words in (
        "untrained",
        "109,386",
        "cosine from 0.001 to 0 over 40 steps",
        "epoch 2/2",
        "test accuracy",
        "95 % interval",
        "tensorboard --logdir",
    ):
        assert words in done.output
        assert words in (done.folder / "train.log").read_text(encoding="utf-8")
    assert (done.folder / ".hydra" / "overrides.yaml").exists()
    assert done.result["command"] == shlex.join(["python", str(PROJECT / "train.py"), *TINY])


def test_every_output_names_the_fallback(train_py: Command) -> None:
    done = train_py("model=mlp_4x64", "trainer.max_epochs=1", "data.batch_size=32")
    assert done.code == 0, done.output
    assert done.output.count("NOT MNIST") == 2, "in the box at the start and in the table at the end"
    assert "http://127.0.0.1:9/" in done.output
    assert "_digits_mlp_4x64" in done.folder.name
    assert done.result["data"]["name"] == "digits"
    assert done.result["data"]["fallback"] is True
    assert done.result["global_step"] == -(-1257 // 32), "the batch size does not change"


@pytest.mark.slow
def test_the_fallback_applies_to_every_job_of_a_sweep(train_py: Command, tmp_path: Path) -> None:
    done = train_py("-m", "model=mlp_4x64,mlp_128_64", "trainer.max_epochs=1")
    assert done.code == 0, done.output
    results = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(tmp_path.glob("outputs/sweeps/*/*/result.json"))
    ]
    assert [result["data"]["fallback"] for result in results] == [True, True]
    assert [result["params"] for result in results] == [59_210, 109_386]


@pytest.mark.slow
def test_runs_that_start_together_have_separate_folders(tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT / "train.py"), *TINY, "trainer.max_epochs=1"]
    runs = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [run.wait() for run in runs] == [0, 0, 0]
    results = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("outputs/runs/*/result.json")]
    assert [result["status"] for result in results] == ["completed"] * 3


def test_a_folder_that_holds_a_run_is_not_overwritten(train_py: Command, tmp_path: Path) -> None:
    assert train_py(*TINY, "hydra.run.dir=here").code == 0
    before = (tmp_path / "here" / "result.json").read_text(encoding="utf-8")
    again = train_py(*TINY, "hydra.run.dir=here")
    assert again.code != 0
    assert "already holds a run" in again.output
    assert (tmp_path / "here" / "result.json").read_text(encoding="utf-8") == before


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_loadable_checkpoint_and_names_it(tmp_path: Path, signum: int, code: int) -> None:
    command = [sys.executable, str(PROJECT / "train.py"), *TINY, "trainer.max_epochs=100000", "hydra.run.dir=run"]
    run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
    assert run.stdout
    printed = ""
    while "epoch      3/" not in printed:
        printed += run.stdout.readline()
    run.send_signal(signum)
    printed += run.stdout.read()
    assert run.wait() == code, printed
    assert "Traceback" not in printed
    assert "last.ckpt" in printed
    load_classifier(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["status"] == "interrupted"


NETWORK = """
from torch import nn
from mnist_lit.models import DigitClassifier


class Wide(DigitClassifier):
    def __init__(self, width: int = 1000, **kwargs):
        super().__init__(**kwargs)
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))
"""
YAML = """
_target_: my_network.Wide
width: 1000
"""


def test_a_custom_network_needs_one_class_and_one_yaml_file(train_py: Command, tmp_path: Path) -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    for text in (NETWORK, YAML):
        assert text.strip() in readme, "the README shows this example"
    mine = tmp_path / "mine"
    (mine / "conf" / "model").mkdir(parents=True)
    (mine / "my_network.py").write_text(NETWORK, encoding="utf-8")
    (mine / "conf" / "model" / "wide.yaml").write_text(YAML, encoding="utf-8")
    own = ["--config-dir", str(mine / "conf"), "model=wide", "data=digits", "trainer=cpu", "trainer.max_epochs=1"]
    done = train_py(*own, "model.width=123", PYTHONPATH=str(mine))
    assert done.code == 0, done.output
    assert done.result["params"] == 784 * 123 + 123 + 123 * 10 + 10
    assert f"--config-dir {mine / 'conf'}" in done.result["command"]
    for override, word in (
        ("+model.depth=3", "depth"),
        ("model.width=abc", "model.width=abc"),
        ("model.width=-1", "-1"),
    ):
        wrong = train_py(*own, override, PYTHONPATH=str(mine))
        assert wrong.code != 0
        assert word in wrong.output
        assert "Traceback" not in wrong.output
        assert wrong.folder == done.folder, "no other folder is made"
    best = str(done.folder / "checkpoints" / "best.ckpt")
    code = f"from mnist_lit.models.checkpoint_file import *; load_classifier({best!r})"
    assert subprocess.run([sys.executable, "-c", code], cwd=mine, check=False).returncode == 0


def check_network(name: str, **options: Any) -> None:
    """Checks a network of this module as `model._target_`."""
    model = ClassSection.model_validate({"_target_": f"{__name__}.{name}", **options})
    check_classes(compose_config("data=digits").model_copy(update={"model": model}), dict)


class SevenScores(DigitClassifier):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(784, 7))


def test_a_custom_network_with_too_few_scores_is_an_error() -> None:
    with pytest.raises(UserError, match=r"returns \[2, 7\] for two images; should be \[2, 10\]"):
        check_network("SevenScores")


class WithoutNetwork(DigitClassifier):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)  # type: ignore[no-any-return]


class WithoutKwargs(WithoutNetwork):
    def __init__(self) -> None:
        super().__init__()


def test_an_error_says_what_a_custom_network_lacks() -> None:
    with pytest.raises(UserError, match=r"should set self\.network"):
        check_network("WithoutNetwork")
    with pytest.raises(UserError, match=r"needs \*\*kwargs"):
        check_network("WithoutKwargs", output="logits")


class ScalesInForward(MLP):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(2 * images)


class FlattensInForward(DigitClassifier):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.flatten(1))


class CutsInForward(DigitClassifier):
    def __init__(self, scores: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(784, scores))

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).expand(-1, max(10, self.network[1].out_features))[:, :10]  # type: ignore[operator, index]


class ScalesInHook(MLP):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_forward_hook(lambda _, __, outputs: 2 * outputs)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ScalesInForward", {"hidden": [4]}),
        ("FlattensInForward", {}),
        ("CutsInForward", {"scores": 20}),
        ("CutsInForward", {"scores": 1}),
        ("ScalesInHook", {"hidden": [4]}),
    ],
)
def test_a_network_that_would_predict_differently_after_training_is_an_error(
    name: str, options: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=r"put all of it into self\.network"):
        check_network(name, **options)


class DropsInEval(DigitClassifier):
    """As Monte Carlo dropout does."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = nn.Sequential(nn.Flatten(), AlwaysDrops(), nn.Linear(784, 10))


class DropsInEvalWithForward(DropsInEval):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)


class AlwaysDrops(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.dropout(images, 0.5, training=True)


class Distances(DigitClassifier):
    """Without a product of matrices."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = ToTemplates()


class ToTemplates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.templates = nn.Parameter(torch.rand(10, 784))

    def forward(self, images: Tensor) -> Tensor:
        return -(images.flatten(1).unsqueeze(1) - self.templates).square().mean(2)


@pytest.mark.parametrize("name", ["DropsInEval", "DropsInEvalWithForward", "Distances"])
def test_an_unusual_network_is_accepted(name: str) -> None:
    check_network(name)


def test_the_precision_of_a_network_without_a_product_of_matrices_is_found() -> None:
    assert choose_precision("auto", "cpu", Distances()) == "32-true"


class BringsCallbacks(DropsInEval):
    def configure_callbacks(self) -> list[Callback]:
        return [EMAWeightAveraging()]


def test_a_network_that_brings_callbacks_is_an_error() -> None:
    with pytest.raises(UserError, match="name its callbacks in callbacks, not in configure_callbacks"):
        check_network("BringsCallbacks")


def test_a_report_that_cannot_be_written_is_one_clear_error(finished: Path) -> None:
    outcome = CliRunner().invoke(app, ["report", str(finished), "--html", str(finished)])
    assert isinstance(outcome.exception, UserError)
    assert str(finished) in str(outcome.exception)


def test_evaluate_prints_the_result_of_the_run(finished: Path) -> None:
    printed, result = CliRunner().invoke(app, ["evaluate", str(finished)]).stdout, read_result(finished)
    assert f"{result['test_acc']:.2%}" in printed
    assert f"{result['test_loss']:.4f}" in printed
    assert "of a run that is" not in printed


@pytest.mark.slow
def test_a_run_completes_in_an_ascii_terminal(command: Command) -> None:
    done = command(*TINY, PYTHONIOENCODING="ascii")
    assert done.code == 0, done.output
    assert "? test accuracy" in done.output


def test_python_dash_m_runs_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mnist_lit", "report", "nowhere"], capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stderr) == (1, "error: there are no runs below nowhere\n")


def test_evaluate_says_that_a_run_is_not_finished(finished_copy: Path) -> None:
    write_result(finished_copy, read_result(finished_copy) | {"status": "interrupted"})
    printed = CliRunner().invoke(app, ["evaluate", str(finished_copy)]).stdout
    assert "best.ckpt, of a run that is interrupted" in printed


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["evaluate", "."], ["data", "verify", "--root", "nothing"]])
def test_mnist_lit_prints_errors_without_a_traceback(arguments: list[str], tmp_path: Path) -> None:
    tool = Path(sys.executable).with_name("mnist-lit")
    done = subprocess.run([tool, *arguments], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.mnist
def test_data_verify_and_doctor_find_mnist(mnist_root: str) -> None:
    verified = CliRunner().invoke(app, ["data", "verify", "--root", mnist_root])
    assert verified.exit_code == 0
    assert verified.stdout.count("correct") == 4
    examined = CliRunner().invoke(app, ["doctor", "--root", mnist_root])
    assert examined.exit_code == 0, examined.stdout
    assert "checksums right" in " ".join(examined.stdout.split()), "a long path moves the words to the next line"


@pytest.mark.mnist
def test_the_command_that_repairs_data_repairs_this_folder(
    tmp_path: Path, mnist_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNIST_LIT_DATA", raising=False)
    folder = Path(shutil.copytree(mnist_root, tmp_path / "my data"))
    for file in folder.glob("MNIST/raw/t10k-labels*"):
        file.write_bytes(b"damaged")
    (wrong,) = (it for it in doctor.check_installation(folder) if it.what == "MNIST")
    verified = CliRunner().invoke(app, ["data", "verify", "--root", str(folder)])
    assert verified.exit_code == 1
    command = str(verified.exception).removeprefix("repair them with: ")
    assert wrong.remedy == command
    failed = subprocess.run(
        shlex.split(command), cwd=tmp_path, env=os.environ | OFFLINE, capture_output=True, encoding="utf-8", check=False
    )
    assert failed.returncode == 1
    assert str(folder) in failed.stderr, "not ./data, nor MNIST_LIT_DATA"


def test_doctor_names_a_gpu_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As with a driver that is too old for this torch."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    (gpu,) = (it for it in doctor.check_installation(tmp_path) if it.what == "gpu")
    assert "cannot use 1 GPU" in gpu.found
    assert gpu.remedy is not None
    assert "driver" in gpu.remedy


@pytest.mark.parametrize(("name", "found"), [("torchvision", None), ("lightning", "2.6.2")])
def test_doctor_imports_nothing_that_is_missing_or_malicious(
    name: str, found: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def version_of(package: str) -> str:
        if package != name:
            return "1.0"
        if found is None:
            raise doctor.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(doctor, "version", version_of)
    monkeypatch.setattr(doctor, "_check_torch", lambda: pytest.fail("imports torch"))
    monkeypatch.setattr(doctor, "_list_devices", lambda: pytest.fail("imports lightning"))
    (bad,) = (it for it in doctor.check_installation(tmp_path) if it.what == name)
    assert bad.remedy is not None


def test_one_format_at_a_time(finished: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(finished), "--csv", "--markdown"])
    assert isinstance(done.exception, UserError)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "grid", "search"])
def test_a_schedule_has_to_fit_the_digits_of_the_fallback(
    kind: str, script: Callable[..., Outcome], tmp_path: Path
) -> None:
    several = {"run": [], "grid": ["-m", "seed=0,1"], "search": ["-m", "hydra/sweeper=optuna", "seed=0,1"]}
    done = script(*several[kind], "trainer=cpu", "scheduler=onecycle", "+scheduler.total_steps=5")
    assert done.code == 1
    assert "scheduler.total_steps=5: torch.optim.lr_scheduler.OneCycleLR cannot make the" in done.output
    assert not (tmp_path / "outputs").exists()


def test_jobs_on_other_data_are_all_tried(script: Callable[..., Outcome], tmp_path: Path) -> None:
    done = script("-m", *TINY, "scheduler=onecycle", "+scheduler.total_steps=1000,5")
    assert done.code == 1
    assert "scheduler.total_steps=5" in done.output
    assert not (tmp_path / "outputs").exists()


LACKS = """
import importlib.metadata, sys

sys.modules[{module!r}] = None
found = importlib.metadata.version
def version(name):
    if name == {package!r}:
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.version = version
sys.argv = ["mnist-lit", "doctor", "--root", {root!r}]
from mnist_lit.cli import main
main()
"""


@pytest.mark.parametrize("package", doctor.PACKAGES)
def test_doctor_works_without_each_package(package: str, tmp_path: Path) -> None:
    module = {"hydra-core": "hydra"}.get(package, package)
    code = LACKS.format(module=module, package=package, root=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert f"repair {package}:" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("width", [40, 80, 200])
def test_doctor_prints_a_command_whole(width: int, tmp_path: Path) -> None:
    root = tmp_path / ("a long folder [with brackets] " * 3)
    examined = CliRunner().invoke(app, ["doctor", "--root", str(root)], env={"COLUMNS": str(width)})
    (line,) = [line.strip() for line in examined.stdout.splitlines() if "data fetch" in line]
    assert shlex.split(line)[-2:] == ["--root", str(root)]


def test_data_files_that_cannot_be_trained_on_are_not_called_correct(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their YAML file names no checksums, so only their content can say it."""
    conf = tmp_path / "conf"
    (conf / "data").mkdir(parents=True)
    roles = ("train_images", "train_labels", "test_images", "test_labels")
    files = "".join(f"  {role}: {{name: {role}}}\n" for role in roles)
    for name, content in {
        "letters": f"name: letters\nroot: x\nfolder: .\nfiles:\n{files}mirrors: []\n",
        "broken": "name: [x\n",
        "unset": "name: ${oc.env:NOWHERE}\nroot: x\nfolder: .\nfiles: {}\n",
    }.items():
        (conf / "data" / f"{name}.yaml").write_text(content, encoding="utf-8")
    monkeypatch.setattr("mnist_lit.cli.CONFIG_FOLDER", conf)
    for role in roles:
        (tmp_path / role).write_bytes(b"")
    for command in ("verify", "fetch"):
        done = CliRunner().invoke(app, ["data", command, "letters", "--root", str(tmp_path)])
        assert isinstance(done.exception, UserError)
        assert "train_images" in str(done.exception)
        assert "correct" not in done.output
        for name in ("broken", "unset"):
            done = CliRunner().invoke(app, ["data", command, name, "--root", str(tmp_path)])
            assert isinstance(done.exception, UserError)
            assert f"{name}.yaml" in str(done.exception)
