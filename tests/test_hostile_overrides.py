"""Bad input to `train.py` is one clear error, without a traceback or a folder. The exit code is not 0."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnist_lit import hydra_app
from mnist_lit.preflight import Preflight
from tests.configs import PROJECT
from tests.conftest import Outcome

Command = Callable[..., Outcome]

NUMBERS = ("optimizer.lr", "optimizer.eps", "data.std", "trainer.gradient_clip_val", "checkpoint.every_seconds")
COUNTS = ("seed", "data.batch_size", "data.val_size", "data.split_seed", "trainer.max_epochs", "trainer.devices")
CHOICES = (
    "model.activation",
    "model.output",
    "loss._target_",
    "optimizer._target_",
    "scheduler._target_",
    "trainer.precision",
)
SWITCHES = ("logger.tensorboard", "logger.csv")
GROUPS = ("data", "model", "loss", "optimizer", "scheduler", "trainer", "logger")
FUNCTIONS = (
    "os.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "shutil.rmtree", "antigravity.fly", "torch.load",
    "torch.nn.Linear", "mnist_lit.models.DigitClassifier.forward", "mnist_lit.data.files.ensure_mnist", "this.s",
    "mnist_lit.training.run.train", "pickle.loads", "idlelib.idle.x", "hydra.utils.instantiate", "numpy.load",
)  # fmt: skip

TARGETS = tuple(f"{group}._target_" for group in ("data", "model", "loss", "optimizer", "scheduler"))

words = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
junk = st.text("[]{}=,:;'\"\\$()~+@#%&*<>|!? \t0aé漢", min_size=1, max_size=12)
not_a_number = st.one_of(words.map(lambda word: f"x{word}"), st.sampled_from(["[1]", "{a: 1}", "true", ".nan", ".inf"]))
negative = st.one_of(st.integers(-(10**30), -1).map(str), st.floats(-1e300, -1e-300).map(str))
interpolations = st.one_of(
    words.map(lambda word: f"${{x{word}}}"),
    words.map(lambda word: f"${{oc.env:X{word.upper()}}}"),
    words.map(lambda word: f"${{x{word}:1}}"),
    st.sampled_from(["${}", "${", "${data}", "${hydra:}", "${oc.decode:'['}", "${oc.create:{_target_: os.system}}"]),
)


def assignment(keys: tuple[str, ...], values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds("{}={}".format, st.sampled_from(keys), values)


bad_override = st.one_of(
    st.builds("x{}={}".format, words, words),
    st.builds("{}.x{}=1".format, st.sampled_from(GROUPS), words),
    st.builds("+{}.x{}=1".format, st.sampled_from(GROUPS), words),
    st.builds("+x{}={}".format, words, words),
    assignment((*NUMBERS, *COUNTS), not_a_number),
    assignment((*NUMBERS, *COUNTS), negative),
    assignment(COUNTS, st.floats(0.1, 0.9).map(str)),
    assignment(COUNTS, st.integers(10**12, 10**40).map(str)).filter(
        lambda override: not override.startswith(("data.split_seed", "trainer."))
    ),
    assignment((*CHOICES, *SWITCHES, *GROUPS), words.map(lambda word: f"x{word}")),
    assignment((*NUMBERS, *COUNTS, *CHOICES, *SWITCHES), interpolations),
    assignment(("seed", "optimizer.lr", "data.batch_size", *CHOICES, *SWITCHES, *GROUPS), st.just("null")),
    assignment(GROUPS, st.sampled_from(["[]", "[a,b]", "1", "true", "''", ".", "../train"])),
    st.sampled_from(GROUPS).map(lambda group: f"~{group}"),
    st.sampled_from((*NUMBERS[:2], *COUNTS)).map(lambda key: f"~{key}"),
    assignment(TARGETS, st.sampled_from(FUNCTIONS)),
    assignment(TARGETS, st.sampled_from(["", ".", "..", "a..b", ".x", "[os.system]", "1", "{a: b}"])),
    st.builds("model._target_={}.{}".format, words, words),
    st.builds("+callbacks.x._target_={}".format, st.sampled_from(FUNCTIONS)),
    st.builds("+logger.x._target_={}".format, st.sampled_from(FUNCTIONS)),
    st.builds("+model.x._target_={}".format, st.sampled_from(FUNCTIONS)),
    assignment(("+optimizer._args_", "+model._args_", "+loss._convert_", "+data._recursive_"), words),
    st.builds("+hydra.{}.x._target_={}".format, st.sampled_from(("callbacks", "launcher")), st.sampled_from(FUNCTIONS)),
    st.sampled_from(["~hydra.callbacks", "hydra.callbacks=null", "+hydra.job_logging.handlers.x.class=os.system"]),
    st.sampled_from(["hydra={callbacks: {preflight: null}}", "hydra/job_logging=none", "+hydra@x=_target_"]),
    assignment(("resume",), st.one_of(words, st.sampled_from(["[a]", "{a: b}", "1", "''", "/", "/proc", "~"]))),
    junk.map(lambda text: f"={text}"),
    words.map(lambda word: word),
)  # fmt: skip


def find_error(override: str) -> str:
    """The error that `python train.py OVERRIDE` prints before any work; empty if the override is accepted."""
    if hydra_app.CODE_OVERRIDE.search(override):
        return "the code that Hydra runs is fixed"
    try:
        config = compose("train", [override], return_hydra_config=True)
    except Exception as error:
        return str(error)
    try:
        Preflight().on_run_start(config, "train")
    except SystemExit as stop:
        return str(stop.code)
    return ""


@pytest.mark.slow
def test_hundreds_of_bad_overrides_are_one_clear_error_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: set[str] = set()

    @settings(max_examples=320, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(bad_override)
    def check(override: str) -> None:
        seen.add(override)
        message = find_error(override)
        assert message, f"{override} is accepted"
        assert "Traceback" not in message
        assert not list(tmp_path.iterdir()), f"{override} leaves a file or folder"

    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        check()
    assert len(seen) >= 300


BAD_OVERRIDES = [
    "model=null",
    "~data",
    "seed=${nothing}",
    "data.name=${oc.env:NOTHING}",
    "optimizer=[a,b]",
    "=",
    "model._target_=..",
    "model._target_=torch.load",
    "+hydra.callbacks.x._target_=os.system",
    "~hydra.callbacks",
    "hydra.run.dir=null",
    "hydra.run.dir=${nothing}",
    "hydra.mode=x",
    "optimizer.lr=1e999",
    "resume=/proc",
    "data.mirrors={a: b}",
]


@pytest.mark.slow
def test_the_command_rejects_bad_overrides(tmp_path: Path) -> None:
    environment = os.environ | {"MNIST_LIT_MIRRORS": "http://127.0.0.1:9/", "MNIST_LIT_DATA": str(tmp_path / "none")}
    for override in BAD_OVERRIDES:
        done = subprocess.run(
            [sys.executable, str(PROJECT / "train.py"), override],
            cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode != 0, override
        assert "Traceback" not in done.stderr + done.stdout, (override, done.stderr)
        assert done.stderr.strip(), override
        assert not list(tmp_path.iterdir()), override


def test_a_config_folder_cannot_name_code(train_py: Command, tmp_path: Path) -> None:
    """A YAML file of another person can only call a network."""
    foreign = tmp_path / "foreign" / "model"
    foreign.mkdir(parents=True)
    for number, target in enumerate(("os.system", "builtins.exec", "tests.test_hostile_overrides.touch")):
        (foreign / f"evil{number}.yaml").write_text(
            f"_target_: {target}\ncommand: touch {tmp_path}/pwned\n", encoding="utf-8"
        )
        done = train_py("--config-dir", str(foreign.parent), f"model=evil{number}", PYTHONPATH=str(PROJECT))
        assert done.code == 1
        assert "DigitClassifier" in done.output
        assert "Traceback" not in done.output
    assert not (tmp_path / "pwned").exists()


def touch(command: str) -> None:
    with contextlib.suppress(OSError):
        Path(command.split()[-1]).touch()
