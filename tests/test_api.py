"""`mnist_lit.train`, `load` and `runs`: the project from Python."""

import io
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from PIL import Image

import mnist_lit
from mnist_lit.data.datasets import load_digits
from mnist_lit.errors import UserError
from mnist_lit.isolation import SEED_VARIABLES
from mnist_lit.models.checkpoint_file import load_classifier, weights_digest
from mnist_lit.run_folder import read_config, read_result, write_result
from tests.conftest import OFFLINE, TINY, Outcome

RELEASED_RUN = Path(__file__).parent / "runs_of_earlier_releases" / "0.2.0"
INTERRUPTED = """
import os, signal, threading, mnist_lit
from lightning.pytorch import Callback

class Stop(Callback):
    def HOOK(self, *args):
        os.kill(os.getpid(), signal.SIGINT)

if __name__ == "__main__":
    before = signal.default_int_handler  # a parent that runs in the background leaves SIGINT ignored
    signal.signal(signal.SIGINT, before)
    try:
        mnist_lit.train(*OPTIONS, "+callbacks.stop._target_=stopping.Stop", "hydra.run.dir=run")
    except KeyboardInterrupt:
        assert signal.getsignal(signal.SIGINT) is before
        print("KeyboardInterrupt")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, without MNIST."""
    monkeypatch.chdir(tmp_path)
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return load_digits(val_size=180, split_seed=0).test.images[:20].numpy().reshape(-1, 28, 28)


def list_files(folder: Path) -> list[str]:
    return sorted(
        re.sub(r"tfevents.*", "tfevents", path.relative_to(folder).as_posix())
        for path in folder.rglob("*")
        if path.is_file() and "checkpoints" not in path.parts
    )


def test_importing_the_package_loads_nothing_else() -> None:
    code = "import sys, mnist_lit; dir(mnist_lit); print([n for n in ('torch', 'hydra', 'numpy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "[]\n"
    assert {"train", "load", "runs", "Run"} <= set(dir(mnist_lit))
    with pytest.raises(AttributeError, match="fit"):
        mnist_lit.fit  # noqa: B018


def test_train_makes_the_run_that_train_py_makes(script: Callable[..., Outcome], folder: Path) -> None:
    run = mnist_lit.train(*TINY, "optimizer.lr=0.01")
    done = script(*TINY, "optimizer.lr=0.01", "hydra.run.dir=by_command")
    assert run.folder.parent == Path("outputs/runs")
    assert run.folder.name.endswith("_digits_mlp_128_64_max_epochs-2_lr-0")
    by_command = folder / "by_command"
    assert list_files(run.folder) == list_files(by_command)
    assert read_config(run.folder) == read_config(by_command)
    digests = [weights_digest(load_classifier(path / "checkpoints/best.ckpt")) for path in (run.folder, by_command)]
    assert digests[0] == digests[1]
    theirs = read_result(by_command)
    assert run.result.keys() == theirs.keys()
    for name in ("command", "status", "test_acc", "val_acc", "choices", "overrides", "data", "params"):
        assert run.result[name] == theirs[name]
    logs = [(path / "train.log").read_text(encoding="utf-8") for path in (run.folder, by_command)]
    assert logs[0].count("\n") == logs[1].count("\n")
    before_table = [re.sub(r"^\[.*?\] |\d\.\d s$", "", log, flags=re.MULTILINE).partition("Tested")[0] for log in logs]
    assert before_table[0] == before_table[1].replace("by_command", str(run.folder))
    assert before_table[1].splitlines()[1] in done.output


def test_train_prints_what_train_py_prints_once(capsys: pytest.CaptureFixture[str]) -> None:
    host = logging.StreamHandler(io.StringIO())
    logging.getLogger().addHandler(host)
    try:
        run = mnist_lit.train(*TINY, "trainer.max_epochs=1")
    finally:
        logging.getLogger().removeHandler(host)
    printed = capsys.readouterr().out
    assert printed.count("epoch 1/1  train loss") == 1
    assert f"run        {run.folder}" in printed
    assert host.stream.getvalue() == ""


def test_a_folder_in_the_home_folder_holds_the_whole_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python and a shell behind `=` pass the sign for it on."""
    monkeypatch.setenv("HOME", str(folder / "home"))
    run = mnist_lit.train(*TINY, "hydra.run.dir=~/my runs/x")
    assert run.folder == folder / "home" / "my runs" / "x"
    assert mnist_lit.load(run).network is not None
    assert not (folder / "~").exists()


def test_training_leaves_nothing_behind_in_the_process(folder: Path) -> None:
    (folder / "conf").mkdir()
    (folder / "conf" / "mine.yaml").write_text("size: 3\n", encoding="utf-8")
    handlers = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]

    def describe_process() -> list[Any]:
        loggers = [logging.getLogger(), logging.getLogger("mnist_lit")]
        state = [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
        return [*state, HydraConfig.initialized(), logging.raiseExceptions, threading.excepthook, version.getbase()]

    mnist_lit.train(*TINY, "trainer.fast_dev_run=true")  # imports all modules
    with initialize_config_dir(str(folder / "conf"), version_base="1.2"):
        before = describe_process()
        mnist_lit.train(*TINY, "trainer.max_epochs=1")
        with pytest.raises(mnist_lit.UserError):
            mnist_lit.train("optimizer.lr=abc")
        assert compose("mine").size == 3
        assert describe_process() == before
    assert not GlobalHydra.instance().is_initialized()
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_run_neither_uses_nor_changes_the_callers_settings_of_torch() -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(1, dtype=torch.float32, device="cpu"))]

    def seed() -> None:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    variables = [os.environ.get(name) for name in SEED_VARIABLES]
    seed()
    numbers = draw()
    expected = mnist_lit.train(*TINY, "trainer.max_epochs=1")
    images = np.zeros((2, 28, 28), np.uint8)
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        seed()
        run = mnist_lit.train(*TINY, "trainer.max_epochs=1")
        assert draw() == numbers
        probabilities = mnist_lit.load(run).predict(images).probabilities
        assert (torch.get_default_dtype(), torch.get_default_device().type) == (torch.float64, "meta")
        assert not torch.is_grad_enabled()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.set_grad_enabled(True)
    assert run.result["test_acc"] == expected.result["test_acc"]
    assert np.array_equal(probabilities, mnist_lit.load(expected).predict(images).probabilities)
    assert [os.environ.get(name) for name in SEED_VARIABLES] == variables


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["modle=cnn"], "modle: there is no such option; did you mean model"),
        (["model=cn", "optimizer=adm"], "model=cn: there is no such choice; did you mean cnn"),
        (["model=cn", "optimizer=adm"], "optimizer=adm: there is no such choice; did you mean adam"),
        (["optimizer.lr=-1"], "optimizer.lr=-1: should be greater than 0"),
        (["optimizer.lr=abc"], "optimizer.lr=abc: should be a number"),
        (["model"], "model: should be OPTION=VALUE"),
        (["-m", "model=cnn,mlp_500"], "-m: is a flag of the command: mnist-lit train -m"),
        (["--config-dir=mine"], "--config-dir=mine: is a flag of the command"),
        (
            ["model=cnn,mlp_500"],
            "makes several runs, and train makes one. Use the command: mnist-lit train -m model=cnn",
        ),
        (["+sweep=width"], "makes several runs"),
        (["sweep.trials=3"], "makes several runs"),
        (["hydra.mode=MULTIRUN"], "makes several runs"),
        (["hydra.callbacks.x._target_=os.abort"], "cannot choose the code that Hydra runs"),
        (["resume=nowhere"], "nowhere is not a run's folder"),
        (["resume=latest"], "latest: there is no unfinished run below outputs/"),
        (["init_from=nowhere"], "init_from=nowhere: there is no such run"),
        (["data.batch_size=1000000"], "data.batch_size"),
        (["model._target_=nowhere.Network"], "nowhere"),
        ([{"model": "cnn"}], "takes options as text"),
    ],
    ids=str,
)
def test_a_wrong_option_is_one_clear_error_and_leaves_nothing(folder: Path, overrides: list[Any], message: str) -> None:
    with pytest.raises(mnist_lit.UserError) as error:
        mnist_lit.train("data=digits", *overrides)
    assert message in str(error.value)
    assert [*folder.iterdir()] == []


def test_options_of_own_files(folder: Path) -> None:
    (folder / "mine" / "model").mkdir(parents=True)
    own = "_target_: mnist_lit.models.MLP\nhidden: [7]\n"
    (folder / "mine" / "model" / "own.yaml").write_text(own, encoding="utf-8")
    search_path = f"hydra.searchpath=[file://{folder}/mine]"
    run = mnist_lit.train(search_path, *TINY, "model=own", "trainer.max_epochs=1")
    assert run.options["model.hidden"] == [7]
    with pytest.raises(mnist_lit.UserError, match=r"model\.hidden=wide: should be a list"):
        mnist_lit.train(search_path, *TINY, "model=own", "model.hidden=wide")


@pytest.mark.slow
def test_resume_continues_a_run_and_a_complete_run_is_returned(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = mnist_lit.train(*TINY, "scheduler=none")
    longer = mnist_lit.train(f"resume={first.folder}", "trainer.max_epochs=3")
    assert (longer.folder, longer.result["epochs"]) == (first.folder, 3)
    straight = mnist_lit.train(*TINY, "scheduler=none", "trainer.max_epochs=3")
    assert straight.metrics()["val_loss"] == longer.metrics()["val_loss"]
    capsys.readouterr()
    again = mnist_lit.train(f"resume={first.folder}")
    assert again.result == longer.result
    assert "is complete: 3 of 3 epochs" in capsys.readouterr().out
    with pytest.raises(mnist_lit.UserError, match="a resumed run keeps its own"):
        mnist_lit.train(f"resume={first.folder}", "optimizer.lr=0.5")


def test_a_run_that_diverges_is_an_error_that_names_the_step() -> None:
    with pytest.raises(mnist_lit.UserError, match="step"):
        mnist_lit.train(*TINY, "optimizer=sgd", "optimizer.lr=1e9", "data.batch_size=8")
    (run,) = mnist_lit.runs()
    assert run.result["status"] == "failed"


@pytest.mark.slow
def test_one_training_at_a_time_runs_in_a_process_also_in_a_thread() -> None:
    runs: list[mnist_lit.Run] = []
    thread = threading.Thread(target=lambda: runs.append(mnist_lit.train(*TINY, "trainer.max_epochs=20")))
    thread.start()
    while not list(Path("outputs").rglob("train.log")):
        assert thread.is_alive()
    with pytest.raises(mnist_lit.UserError, match="another training runs in this process"):
        mnist_lit.train(*TINY)
    thread.join()
    (run,) = runs
    assert run.result["status"] == "completed"


@pytest.mark.slow
@pytest.mark.parametrize("hook", ["on_train_epoch_end", "on_validation_start", "on_test_start", "on_fit_start"])
def test_ctrl_c_ends_the_training_and_the_program_goes_on(folder: Path, hook: str) -> None:
    options = repr([*TINY, "trainer.max_epochs=4"])
    code = INTERRUPTED.replace("HOOK", hook).replace("OPTIONS", options)
    (folder / "stopping.py").write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, "stopping.py"], capture_output=True, encoding="utf-8", env=os.environ)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "KeyboardInterrupt"), done.stdout + done.stderr
    (run,) = mnist_lit.runs("run")
    assert run.result["status"] == "interrupted"
    assert "Continue with: " in done.stdout


def test_runs_are_a_table_of_what_differs() -> None:
    with pytest.raises(mnist_lit.UserError, match="outputs: there is no such folder"):
        mnist_lit.runs()
    for lr in (0.01, 0.001):
        mnist_lit.train(*TINY, "trainer.max_epochs=1", f"optimizer.lr={lr}")
    runs = mnist_lit.runs()
    assert [row["optimizer.lr"] for row in runs.rows()] == [0.01, 0.001]
    assert runs.rows()[0].keys() == {"status", "test_acc", "val_acc", "fit_seconds", "optimizer.lr", "run"}
    header, *lines = repr(runs).splitlines()
    assert header.split() == [*runs.rows()[0]]
    assert [line.split()[-1] for line in lines] == [str(run.folder) for run in runs]
    (only,) = mnist_lit.runs(runs[0].folder)
    assert repr(only) == f"Run({only.folder}: completed, test_acc {only.result['test_acc']:.2%})"
    assert mnist_lit.load(only.folder.name).about == mnist_lit.load(only).about
    (runs[0].folder / "result.json").write_text("{", encoding="utf-8")
    with pytest.warns(UserWarning, match=r"result\.json"):
        assert len(mnist_lit.runs()) == 1


def test_metrics_are_the_curves_of_a_run(finished: Path) -> None:
    (run,) = mnist_lit.runs(finished)
    steps, values = zip(*run.metrics()["val_acc"], strict=True)
    assert steps[-1] == run.result["global_step"]
    assert max(values) == pytest.approx(run.result["val_acc"], abs=1e-6)


def test_pictures_of_every_form_give_the_same_probabilities(finished: Path, pictures: np.ndarray) -> None:
    classifier = mnist_lit.load(finished)
    expected = classifier.predict(pictures)
    assert expected.labels.shape == (20,)
    assert np.allclose(expected.probabilities.sum(1), 1, atol=1e-5)
    data = load_digits(val_size=180, split_seed=0).test
    (run,) = mnist_lit.runs(finished)
    accuracy = (classifier.predict(data.images.numpy().reshape(-1, 28, 28)).labels == data.labels.numpy()).mean()
    assert accuracy == pytest.approx(run.result["test_acc"], abs=1e-6)
    forms: dict[str, Any] = {
        "float 0 to 1": pictures / 255,
        "float32": (pictures / 255).astype(np.float32),
        "float 0 to 255": pictures.astype(np.float64),
        "int64": pictures.astype(np.int64),
        "tensor": torch.from_numpy(pictures),
        "float tensor with gradient": (torch.from_numpy(pictures) / 255).requires_grad_(),
        "tensor with a channel": torch.from_numpy(pictures).unsqueeze(1) / 255,
        "list of arrays": list(pictures),
        "list of tensors": list(torch.from_numpy(pictures) / 255),
        "nested list": pictures.tolist(),
        "PIL as in torchvision's MNIST": [Image.fromarray(picture) for picture in pictures],
        "not contiguous": np.asfortranarray(pictures),
    }
    for form, images in forms.items():
        assert np.allclose(classifier.predict(images).probabilities, expected.probabilities, atol=1e-6), form
    one = classifier.predict(pictures[0])
    assert (len(one), one.names) == (1, [str(expected.labels[0])])
    assert np.allclose(one.confidence, expected.confidence[:1])
    assert repr(one) == f"Predictions({one.names[0]} {one.confidence[0]:.1%})"
    assert len(classifier.predict(pictures[:0])) == 0


def test_pictures_and_files_of_any_size_are_prepared_as_mnist_lit_predict_does(
    finished: Path, folder: Path, pictures: np.ndarray
) -> None:
    from mnist_lit.digits.preparation import prepare_one

    paper = Image.new("RGB", (400, 300), "white")
    paper.paste(Image.fromarray(255 - pictures[3]).resize((112, 112)), (150, 90))
    paper.save("mine.png")
    classifier = mnist_lit.load(finished)
    expected = prepare_one(Path("mine.png")).pixels
    for images in ("mine.png", Path("mine.png"), ["mine.png"], paper, [paper], paper.convert("CMYK")):
        assert np.abs(classifier.predict(images).pixels[0].astype(int) - expected).max() <= 3
    mixed = classifier.predict([pictures[0], "mine.png", Image.fromarray(pictures[1])])
    assert np.array_equal(mixed.pixels, [pictures[0], expected, pictures[1]])
    (folder / "blank.png").write_bytes(b"")
    for images, message in (
        (["mine.png", "none.png"], "none.png: No such file"),
        ("blank.png", "blank.png: is empty"),
        ([paper, Image.new("L", (90, 90), "white")], "picture 1: is blank"),
        (Image.new("L", (2, 2)), "picture 0: is too small"),
    ):
        with pytest.raises(mnist_lit.UserError, match=message):
            classifier.predict(images)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((5, 784)), r"This has the shape \[5, 784\]"),
        (np.zeros((28, 28, 3), np.uint8), r"the shape \[28, 28, 3\]"),
        (np.zeros((2, 3, 28, 28)), r"the shape \[2, 3, 28, 28\]"),
        ([np.zeros((28, 28)), np.zeros((14, 14))], "different shapes"),
        ([], r"the shape \[0\]"),
        (7, r"the shape \[\]"),
        (None, "This is NoneType"),
        ({"images": 1}, "This is dict"),
        (np.full((1, 28, 28), "0"), "This is ndarray of"),
        (np.full((1, 28, 28), -0.42), "from -0.42 to -0.42; leave out the normalization"),
        (np.linspace(-0.42, 2.82, 784).reshape(28, 28), "leave out the normalization"),
        (np.full((1, 28, 28), np.nan), "from nan to nan"),
        (np.full((1, 28, 28), 300), "from 300 to 300"),
        (np.eye(28) * 1.02, "from 0 to 1.02, which is too little"),
        (np.eye(28, dtype=np.uint8), "from 0 to 1, which is too little"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_pictures_are_one_clear_error(finished: Path, images: Any, message: str) -> None:
    with pytest.raises(mnist_lit.UserError, match=message) as error:
        mnist_lit.load(finished).predict(images)
    assert str(error.value).startswith("predict takes arrays or tensors [n, 28, 28]")


def test_dark_digits_on_light_paper_are_warned_of(finished: Path, pictures: np.ndarray) -> None:
    classifier = mnist_lit.load(finished)
    with pytest.warns(UserWarning, match="3 of 20 pictures have a light border"):
        classifier.predict(np.concatenate([255 - pictures[:3], pictures[3:]]))
    with warnings.catch_warnings(action="error"):
        classifier.predict(pictures)


def test_a_network_for_clothes_takes_arrays_but_no_photos(finished_copy: Path) -> None:
    path = finished_copy / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["datamodule_hyper_parameters"] |= {"name": "fashion_mnist", "classes": list("abcdefghij")}
    torch.save(checkpoint, path)
    classifier = mnist_lit.load(finished_copy)
    shirt = np.full((28, 28), 200, np.uint8)
    with warnings.catch_warnings(action="error"):  # clothes may reach the border
        (name,) = classifier.predict(shirt).names
    assert name in classifier.classes
    with warnings.catch_warnings(action="error"):
        assert classifier.predict([Image.fromarray(shirt)]).names == [name], "a gray picture of 28 × 28 is an array"
    with pytest.raises(mnist_lit.UserError, match=r"picture 0: .* trained on fashion_mnist. Pass arrays"):
        classifier.predict(Image.new("RGB", (90, 90), "white"))


def test_load_takes_runs_of_earlier_releases_and_says_what_is_missing(folder: Path, pictures: np.ndarray) -> None:
    assert len(mnist_lit.load(RELEASED_RUN).predict(pictures)) == 20
    assert len(mnist_lit.load(str(RELEASED_RUN / "checkpoints" / "best.ckpt")).predict(pictures)) == 20
    for name, message in (("nowhere", "nowhere: there is no such run or checkpoint"), ("latest", "there is no run")):
        with pytest.raises(mnist_lit.UserError, match=message):
            mnist_lit.load(name)


def test_an_empty_variable_is_one_that_is_not_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_LIT_DATA", "")
    assert mnist_lit.train(*TINY, "trainer.fast_dev_run=true").result["status"] == "fast_dev_run"


def test_a_resumption_that_fails_holds_no_lock(finished_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(finished_copy / "checkpoints")
    write_result(finished_copy, read_result(finished_copy) | {"status": "interrupted"})
    monkeypatch.setattr("mnist_lit.preflight.check_data", lambda config: (_ for _ in ()).throw(UserError("no data")))
    with pytest.raises(UserError, match="no data") as kept:  # a notebook keeps the traceback
        mnist_lit.train(f"resume={finished_copy}")
    code = (
        f"from pathlib import Path; from mnist_lit.run_folder import lock_folder; lock_folder(Path('{finished_copy}'))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert kept.tb is not None
