"""Printed commands can be pasted into a shell, and folder names need no quotes."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mnist_lit.commands import (
    LONGEST_NAME,
    folder_name,
    quote_for_hydra,
    report_command,
    resume_command,
    resume_sweep_command,
    run_command,
)
from tests.configs import PROJECT

PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)


def source(provider: str, path: object, schema: str = "file") -> SimpleNamespace:
    return SimpleNamespace(provider=provider, path=str(path), schema=schema)


def hydra_section(*sources: SimpleNamespace, name: str = "train") -> Any:
    return SimpleNamespace(runtime=SimpleNamespace(config_sources=sources), job=SimpleNamespace(config_name=name))


PLAIN = hydra_section(source("hydra", "hydra.conf", "pkg"), source("main", PROJECT / "conf"), source("schema", "", ""))


def read_override(text: str) -> Any:
    """The value that a run gets: parsed by Hydra, resolved by OmegaConf."""
    (override,) = OverridesParser.create().parse_overrides([text])
    return OmegaConf.create({"value": override.value()}).value


FOLDERS = [
    *("outputs/sweeps/2026-11-21_10-00-00", "my runs/lr=0.1,seed=2 (again)", "läufe", "[ä]", "a b", "a:b", "~/x", "-x"),
    *(
        "1_000",
        "null",
        "1e5",
        "it's",
        'a "b"',
        "a\\b",
        "a\\",
        'a\\"',
        "${seed}",
        "\\${seed}",
        "!x",
        "$HOME",
        "*",
        "a;b&c",
    ),
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_resume_command_names_its_folder(folder: str) -> None:
    for command in (resume_command(Path(folder)), resume_sweep_command(["seed=1"], PLAIN, Path(folder))):
        assert read_override(shlex.split(command)[-1]) == folder


@given(PRINTABLE)
def test_any_folder_can_be_named(folder: str) -> None:
    assert read_override(shlex.split(resume_command(Path(folder)))[-1]) == str(Path(folder))
    assert read_override(f"key={quote_for_hydra(folder)}") == folder
    assert shlex.split(report_command(Path(folder)))[2] == str(Path(folder))


def test_a_plain_folder_has_no_quotes() -> None:
    assert resume_command(Path("outputs/runs/2026-11-21_10-00-00_cnn")).endswith(
        " resume=outputs/runs/2026-11-21_10-00-00_cnn"
    )


@given(st.lists(PRINTABLE.map(lambda text: f"key={quote_for_hydra(text)}")))
def test_overrides_of_a_command_stay_as_they_are(overrides: list[str]) -> None:
    assert shlex.split(resume_sweep_command(overrides, PLAIN, Path("sweep")))[3:-1] == overrides
    assert shlex.split(run_command(overrides, PLAIN))[2:] == overrides


def test_a_command_has_the_config_options_that_were_given() -> None:
    own = hydra_section(source("main", "/my conf"), source("command-line", "/läufe/conf"), name="mine")
    options = ["--config-path", "/my conf", "--config-dir", "/läufe/conf", "--config-name", "mine"]
    assert shlex.split(resume_sweep_command(["seed=1"], own, Path("sweep")))[2:] == [
        *options,
        "-m",
        "seed=1",
        "sweep.resume=sweep",
    ]
    assert shlex.split(run_command(["seed=1"], own))[2:] == [*options, "seed=1"]
    assert run_command(["seed=1"], PLAIN) == "python train.py seed=1"
    searched = hydra_section(source("hydra.searchpath in command-line", "/a b/[c]"))
    (path,) = read_override(shlex.split(run_command([], searched))[2])
    assert path == "file:///a b/[c]"


def test_zsh_does_not_expand_a_word() -> None:
    assert report_command(Path("=ls")) == "mnist-lit report '=ls' --html page.html"
    assert shlex.split(report_command(Path("=it's"))) == ["mnist-lit", "report", "=it's", "--html", "page.html"]


def test_a_command_has_the_variables_that_the_run_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MNIST_LIT_DATA", "my data"), ("LR", "0.1"), ("EMPTY", ""), ("PASSWORD", "secret")):
        monkeypatch.setenv(name, value)
    options = ["optimizer.lr=${oc.env:LR}", "seed=${oc.env:EMPTY,1}", "sweep.storage=${oc.env:PASSWORD}"]
    words = shlex.split(run_command(options, PLAIN, {"root": "my data", "mirrors": None}))
    assert words == ["LR=0.1", "MNIST_LIT_DATA=my data", "python", "train.py", *options]
    monkeypatch.setenv("API_KEY", "secret")
    assert "secret" not in run_command(["+logger.x.key=${oc.env:API_KEY}"], PLAIN)
    for data in ({"root": "elsewhere"}, {"batch_size": 64}):
        assert run_command(["seed=1"], PLAIN, data) == "python train.py seed=1"


NETWORK = """
from mnist_lit.models.mlp import MLP

class Mine(MLP):
    pass
"""


@dataclass(frozen=True)
class Pasting:
    """A folder with a person's own class, config and folder for runs, all with a name that needs quotes."""

    here: Path
    mine: Path
    shell: str

    def start(self, *options: str) -> "subprocess.Popen[str]":
        words = [sys.executable, str(PROJECT / "train.py"), "--config-dir", f"{self.mine.name}/conf"]
        words += ["--config-name=mine", "data=digits", "model=mine", "trainer=cpu", "callbacks=none", "scheduler=none"]
        words += ["logger.tensorboard=false", "data.name=${oc.env:NAME}", *options]
        variables = self.variables | {"PYTHONPATH": f"/nowhere:{self.mine.name}", "NAME": "some_digits"}
        return subprocess.Popen(
            words,
            cwd=self.here,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )

    def paste(self, line: str) -> "subprocess.Popen[str]":
        """Runs a line in a shell that has none of the variables of the first command."""
        words = [self.shell, "-c", f"exec env {line}"]
        return subprocess.Popen(
            words,
            cwd=self.here,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )

    @property
    def variables(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MNIST_LIT", "PYTHONPATH"))}
        return kept | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def statuses(self) -> list[str]:
        return [
            json.loads(path.read_text(encoding="utf-8"))["status"] for path in (self.mine / "out").rglob("result.json")
        ]


@pytest.fixture
def pasting(request: pytest.FixtureRequest, tmp_path: Path) -> Pasting:
    if shutil.which(request.param) is None:
        pytest.skip(f"there is no {request.param}")
    mine = tmp_path / "my=files, [ä] (1) it's"
    (mine / "conf" / "model").mkdir(parents=True)
    (mine / "my_network.py").write_text(NETWORK, encoding="utf-8")
    network = (PROJECT / "conf" / "model" / "mlp_128_64.yaml").read_text(encoding="utf-8")
    (mine / "conf" / "model" / "mine.yaml").write_text(
        re.sub("_target_: .*", "_target_: my_network.Mine", network), encoding="utf-8"
    )
    (mine / "conf" / "mine.yaml").write_text("defaults: [train, _self_]\noptimizer: {lr: 0.0123}\n", encoding="utf-8")
    return Pasting(tmp_path, mine, request.param)


REPEATED = [
    ("zsh", []),
    ("bash", ["-m", "data.batch_size=64"]),
    ("zsh", ["-m", "hydra/sweeper=optuna", "data.batch_size=64,32", "sweep.trials=1"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("pasting", "options"), REPEATED, ids=["run", "grid", "search"], indirect=["pasting"])
def test_the_command_that_repeats_a_run_works_when_it_is_pasted(pasting: Pasting, options: list[str]) -> None:
    place = f"hydra.{'sweep' if options else 'run'}.dir={pasting.mine.name}/out"
    done = pasting.start("trainer.max_epochs=1", *options, place)
    printed = done.communicate(timeout=120)[0]
    assert done.returncode == 0, printed
    (result,) = (pasting.mine / "out").rglob("result.json")
    lines = re.findall(r"repeat (?:the best row|trial \d+)  (.*)", printed) or [
        json.loads(result.read_text(encoding="utf-8"))["command"]
    ]
    again = pasting.paste(lines[0])
    printed = again.communicate(timeout=120)[0]
    assert again.returncode == 0, lines[0] + printed
    (config,) = (pasting.here / "outputs" / "runs").glob("*/config.yaml")
    assert yaml.safe_load(config.read_text(encoding="utf-8")) == yaml.safe_load(
        (result.parent / "config.yaml").read_text(encoding="utf-8")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pasting", "options"),
    [("bash", []), ("zsh", ["-m", "data.batch_size=64,32"])],
    ids=["run", "grid"],
    indirect=["pasting"],
)
def test_the_command_that_resumes_a_run_works_when_it_is_pasted(pasting: Pasting, options: list[str]) -> None:
    place = f"hydra.{'sweep' if options else 'run'}.dir={pasting.mine.name}/out"
    started = pasting.start("trainer.max_epochs=100000", *options, place)
    while not list((pasting.mine / "out").rglob("last.ckpt")):
        assert started.poll() is None, started.communicate()[0]
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    (line,) = re.findall("[Cc]ontinue with: (.*)", started.communicate(timeout=60)[0])
    again = pasting.paste(line)
    while "running" not in pasting.statuses():
        assert again.poll() is None, line + again.communicate()[0]
        time.sleep(0.1)
    again.send_signal(signal.SIGINT)
    printed = again.communicate(timeout=60)[0]
    assert again.returncode == 130, line + printed


NAMES = [
    ([("model", "mlp_500"), ("optimizer", "sgd"), ("seed", "2")], "model-mlp_500_optimizer-sgd_seed-2"),
    ([("optimizer.lr", "0.01"), ("model.hidden", "[300,100]")], "lr-0.01_hidden-300-100"),
    ([("optimizer.lr", "1e-09"), ("+optimizer.momentum", "'0.9'")], "lr-1e-09_momentum-0.9"),
    ([("optimizer.betas", "[0.9, 0.99]"), ("x", "-1"), ("y", "1e+16")], "betas-0.9-0.99_x--1_y-1e16"),
    ([("model.hidden", "[]"), ("name", "größe 2")], "hidden-empty_name-gr__e-2"),
    ([("seed", "1" * 100)], "seed-" + "1" * 59),
]  # fmt: skip


@pytest.mark.parametrize(("options", "name"), NAMES)
def test_a_folder_name_says_the_options(options: list[tuple[str, str]], name: str) -> None:
    assert folder_name(options) == name


@given(st.lists(st.tuples(st.text(), st.text())), st.integers(0, 10**6))
def test_a_folder_name_needs_no_quotes_and_is_short(options: list[tuple[str, str]], number: int) -> None:
    start = f"{number}_"
    name = start + folder_name(options, LONGEST_NAME - len(start))
    assert shlex.quote(name) == name
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", name)
    assert len(name) <= 64
