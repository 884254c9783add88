"""If a private API of torch or Lightning changes, a run still gets the same weights, and the log says so."""

import ast
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mnist_lit
from mnist_lit import private_apis
from mnist_lit.models.checkpoint_file import load_classifier, weights_digest
from tests.conftest import Run

Start = Callable[..., Run]
OPTIONS = ["optimizer=adam", "scheduler=onecycle", "trainer.steps_per_execution=7"]


def digest(run: Run) -> str:
    return weights_digest(load_classifier(run.folder / "checkpoints" / "last.ckpt"))


@pytest.fixture(autouse=True)
def forget_trials() -> Iterator[None]:
    private_apis.usable.cache_clear()
    yield
    private_apis.usable.cache_clear()


def test_every_private_api_works_with_the_installed_packages() -> None:
    assert [name for name in private_apis.TRIALS if not private_apis.usable(name)] == []


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("name", list(private_apis.TRIALS))
def test_without_one_private_api_the_weights_are_the_same_and_the_log_says_so(
    run: Start, name: str, optimizer: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options = [*OPTIONS, f"optimizer={optimizer}"]
    usual = digest(run(*options, name="usual"))
    private_apis.usable.cache_clear()

    def fail() -> None:
        raise AttributeError("it has another name now")

    monkeypatch.setitem(private_apis.TRIALS, name, fail)
    with caplog.at_level(logging.WARNING):
        other = run(*options, name="other")
    assert digest(other) == usual
    assert other.result["global_step"] == 40
    warnings = [record.message for record in caplog.records if name in record.message]
    assert len(warnings) == 1
    assert "it has another name now" in warnings[0]


def test_without_any_private_api_the_weights_are_the_same(run: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = digest(run(*OPTIONS, name="usual"))
    private_apis.usable.cache_clear()
    for name in private_apis.TRIALS:
        monkeypatch.setitem(private_apis.TRIALS, name, lambda: 1 / 0)
    assert digest(run(*OPTIONS, name="other")) == usual


def test_only_one_module_uses_private_names_of_other_packages() -> None:
    found: dict[str, list[str]] = {}
    for path in Path(mnist_lit.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                holder = ast.unparse(node.value)
                if holder not in ("self", "cls", "super()", "os", "atexit") and node.attr not in own:
                    found.setdefault(path.name, []).append(ast.unparse(node))
    assert list(found) == ["private_apis.py"], found
    assert len(found["private_apis.py"]) > 5
