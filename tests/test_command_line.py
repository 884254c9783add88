"""`python train.py …` and `mnist-lit …` as a person types them."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from torch import Tensor, nn
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.errors import UserError
from mnist_lit.models import MLP, DigitClassifier
from mnist_lit.training.checkpoints import load_classifier
from mnist_lit.training.commands import resume_command, resume_sweep_command
from mnist_lit.training.networks import check_network
from tests.conftest import PROJECT, TINY, Outcome

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
def test_help_config_and_errors_import_no_torch(arguments: list[str], tmp_path: Path) -> None:
    code = NO_TORCH.format(train=str(PROJECT / "train.py"))
    done = subprocess.run(
        [sys.executable, "-c", code, "x", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
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
        (["optimizer.lr=abc"], "optimizer.lr=abc"),
        (["model=resnet"], "mlp_4x64"),
        (["data.val_size=70000", "data.batch_size=0"], "data.batch_size=0"),
        (["hydra.run.dir=/proc/here"], "/proc/here"),
        (["data.fallback=null"], "train-images-idx3-ubyte"),
        (["experiment=cnn", "data=digits"], "of MNIST alone"),
        (["loss=l1", "loss.label_smoothing=0.1"], "legal: none"),
        (["hydra.job.chdir=true"], "hydra.job.chdir"),
        (["model._target_=os.system"], "DigitClassifier"),
        (["model._target_=no_such.Network"], "PYTHONPATH"),
        (["data.batch_size=5000"], "at most 1257"),  # right for MNIST, which cannot be had, and too large for digits
        pytest.param(
            ["trainer.precision=16-mixed"],
            "32-true or bf16-mixed",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU"),
        ),
        pytest.param(
            ["trainer=gpu"], "trainer=cpu", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
        ),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_nothing(
    command: Command, tmp_path: Path, arguments: list[str], named: str
) -> None:
    done = command(*arguments)
    assert done.code != 0
    assert named in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(("last_words", "code"), [("done()", 0), ("done; sys.exit(3)", 3)])
def test_a_program_that_is_done_ends_at_once_but_tidily(last_words: str, code: int) -> None:
    program = f"""
from mnist_lit import quick_exit
import atexit, sys
class Part:
    def __del__(self): print("taken apart")
part = Part()
atexit.register(print, "what a library does last")
print("work")
quick_exit.{last_words}
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert ended.stdout.splitlines()[:2] == ["work", "what a library does last"]
    assert ("taken apart" in ended.stdout) is (code != 0)


def test_a_run_tells_its_story(command: Command) -> None:
    done = command(*TINY)
    assert done.code == 0, done.output
    for words in ("before training", "109,386", "epoch 2/2", "test accuracy", "95 % interval", "tensorboard --logdir"):
        assert words in done.output
        assert words in (done.folder / "train.log").read_text()
    assert (done.folder / ".hydra" / "overrides.yaml").exists()
    assert done.result["command"] == "python train.py " + " ".join(TINY)


def test_fallback_says_so_everywhere(command: Command) -> None:
    done = command("model=mlp_4x64", "trainer.max_epochs=1", "data.batch_size=32")
    assert done.code == 0, done.output
    assert done.output.count("NOT MNIST") == 2, "the box at the start, the table at the end"
    assert "http://127.0.0.1:9/" in done.output
    assert done.folder.name.endswith("_digits")
    assert done.result["data"]["name"] == "digits"
    assert done.result["data"]["fallback"] is True
    assert done.result["global_step"] == -(-1257 // 32), "batch_size is kept"


def test_fallback_holds_for_every_job_of_a_sweep(command: Command, tmp_path: Path) -> None:
    done = command("-m", "model=mlp_4x64,mlp_128_64", "trainer.max_epochs=1")
    assert done.code == 0, done.output
    results = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("outputs/sweeps/*/*/result.json"))]
    assert [result["data"]["fallback"] for result in results] == [True, True]
    assert [result["params"] for result in results] == [59_210, 109_386]


def test_runs_started_at_once_have_folders_of_their_own(tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT / "train.py"), *TINY, "trainer.max_epochs=1"]
    runs = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [run.wait() for run in runs] == [0, 0, 0]
    results = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/runs/*/result.json")]
    assert [result["status"] for result in results] == ["completed"] * 3


def test_a_folder_that_holds_a_run_is_not_written_over(command: Command, tmp_path: Path) -> None:
    assert command(*TINY, "hydra.run.dir=here").code == 0
    before = (tmp_path / "here" / "result.json").read_text()
    again = command(*TINY, "hydra.run.dir=here")
    assert again.code != 0
    assert "holds a run already" in again.output
    assert (tmp_path / "here" / "result.json").read_text() == before


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_loadable_checkpoint_and_says_so(tmp_path: Path, signum: int, code: int) -> None:
    command = [sys.executable, str(PROJECT / "train.py"), *TINY, "trainer.max_epochs=100000", "hydra.run.dir=run"]
    run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
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
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "interrupted"


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


def test_a_network_of_ones_own_takes_one_class_and_one_yaml(command: Command, tmp_path: Path) -> None:
    readme = (PROJECT / "README.md").read_text()
    for text in (NETWORK, YAML):
        assert text.strip() in readme, "the README shows what this test does"
    mine = tmp_path / "mine"
    (mine / "conf" / "model").mkdir(parents=True)
    (mine / "my_network.py").write_text(NETWORK)
    (mine / "conf" / "model" / "wide.yaml").write_text(YAML)
    own = ["--config-dir", str(mine / "conf"), "model=wide", "data=digits", "trainer=cpu"]
    done = command(*own, "model.width=123", PYTHONPATH=str(mine))
    assert done.code == 0, done.output
    assert done.result["params"] == 784 * 123 + 123 + 123 * 10 + 10
    assert f"--config-dir {mine / 'conf'}" in done.result["command"]
    for override, word in (
        ("+model.depth=3", "depth"),
        ("model.width=abc", "model.width=abc"),
        ("model.width=-1", "-1"),
    ):
        wrong = command(*own, override, PYTHONPATH=str(mine))
        assert wrong.code != 0
        assert word in wrong.output
        assert "Traceback" not in wrong.output
        assert wrong.folder == done.folder, "no other has been made"
    code = (
        f"from mnist_lit.training.checkpoints import *; load_classifier({str(done.folder / 'checkpoints/best.ckpt')!r})"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=mine, check=False).returncode == 0


class SevenScores(DigitClassifier):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(784, 7))


def test_a_network_of_ones_own_with_too_few_scores_is_refused() -> None:
    with pytest.raises(UserError, match=r"\[2, 7\] where \[2, 10\]"):
        check_network(f"{__name__}.SevenScores", {})


class Nameless(DigitClassifier):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)  # type: ignore[no-any-return]


class TakesNothing(Nameless):
    def __init__(self) -> None:
        super().__init__()


def test_a_network_of_ones_own_is_told_what_it_lacks() -> None:
    with pytest.raises(UserError, match=r"should set self\.network"):
        check_network(f"{__name__}.Nameless", {})
    with pytest.raises(UserError, match=r"needs \*\*kwargs"):
        check_network(f"{__name__}.TakesNothing", {"output": "logits"})


class DoublesItsPictures(MLP):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(2 * images)


class FlattensThem(DigitClassifier):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.flatten(1))


@pytest.mark.parametrize(("name", "options"), [("DoublesItsPictures", {"hidden": [4]}), ("FlattensThem", {})])
def test_a_network_that_would_predict_otherwise_than_it_was_trained_is_refused(
    name: str, options: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=r"put all of it into self\.network"):
        check_network(f"{__name__}.{name}", options)


@pytest.mark.parametrize("folder", ["outputs/sweeps/2026-11-21_10-00-00", "my runs/lr=0.1,seed=2 (again)"])
def test_a_command_to_go_on_names_its_folder_as_hydra_reads_it(folder: str) -> None:
    nothing = SimpleNamespace(runtime=SimpleNamespace(config_sources=[]))
    for command in (resume_command(Path(folder)), resume_sweep_command(["seed=1"], nothing, Path(folder))):
        (override,) = OverridesParser.create().parse_overrides(shlex.split(command)[-1:])
        assert override.value() == folder


def test_a_page_that_cannot_be_written_is_named(command: Command) -> None:
    folder = command(*TINY).folder
    told = CliRunner().invoke(app, ["report", str(folder), "--html", str(folder)])
    assert isinstance(told.exception, UserError)
    assert str(folder) in str(told.exception)


def test_evaluate_prints_what_the_result_holds(command: Command) -> None:
    done = command(*TINY)
    printed = CliRunner().invoke(app, ["evaluate", str(done.folder)]).stdout
    assert f"{done.result['test_acc']:.2%}" in printed
    assert f"{done.result['test_loss']:.4f}" in printed
    assert "of a run that is" not in printed


def test_a_terminal_that_lacks_characters_ends_no_run(command: Command) -> None:
    done = command(*TINY, PYTHONIOENCODING="ascii")
    assert done.code == 0, done.output
    assert "? test accuracy" in done.output


def test_python_dash_m_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mnist_lit", "report", "nowhere"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "error: there are no runs below nowhere\n")


def test_evaluate_says_that_a_run_is_not_finished(command: Command) -> None:
    done = command(*TINY)
    (done.folder / "result.json").write_text(json.dumps(done.result | {"status": "interrupted"}))
    printed = CliRunner().invoke(app, ["evaluate", str(done.folder)]).stdout
    assert "best.ckpt, of a run that is interrupted" in printed


@pytest.mark.parametrize("arguments", [["evaluate", "."], ["data", "verify", "--root", "nothing"]])
def test_mnist_lit_names_what_is_wrong_without_a_traceback(arguments: list[str], tmp_path: Path) -> None:
    tool = Path(sys.executable).with_name("mnist-lit")
    done = subprocess.run([tool, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.mnist
def test_data_verify_and_doctor_find_mnist(mnist_root: str) -> None:
    verified = CliRunner().invoke(app, ["data", "verify", "--root", mnist_root])
    assert verified.exit_code == 0
    assert verified.stdout.count("right") == 4
    examined = CliRunner().invoke(app, ["doctor", "--root", mnist_root])
    assert examined.exit_code == 0, examined.stdout
    assert "checksums right" in examined.stdout.replace("\n", " ").replace("  ", " ")
