"""`python -m benchmarks.house` compares the size and the structure of the code with the goals."""

import argparse
import ast
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from benchmarks.runner import build_environment
from tests.configs import PROJECT

GOALS = {"code files": 90, "lines in mnist_lit/": 9500, "files on the call path": 10}

CALL_PATH = """
import os, runpy, sys, traceback
from pathlib import Path
import torch
project = Path(sys.argv[1])

def first_step(self, closure=None):
    frames = [Path(frame.filename) for frame in traceback.extract_stack()]
    if not any(path.name == "step.py" for path in frames):  # an earlier test step of the optimizer
        return
    inside = [path.relative_to(project) for path in frames if path.is_relative_to(project)]
    own = [str(path) for path in inside if path.parts[0] in ("train.py", "mnist_lit", "hydra_plugins")]
    print("CALL_PATH", *dict.fromkeys(own), flush=True)
    os._exit(0)

torch.optim.Adam.step = first_step
options = ["data=digits", "trainer=cpu", "model=mlp_128_64", "logger.tensorboard=false", "callbacks=none"]
sys.argv = ["train.py", *options, f"hydra.run.dir={sys.argv[2]}"]
runpy.run_path(str(project / "train.py"), run_name="__main__")
"""

INFERENCE = """
import sys
from pathlib import Path
import mnist_lit.cli, mnist_lit.digits.export, mnist_lit.digits.server, mnist_lit.digits.picture_predictions
from mnist_lit.digits.trained_network import open_network
if len(sys.argv) > 1:
    open_network(Path(sys.argv[1]))
print(*[name for name in sys.modules if name.startswith("mnist_lit.training")])
"""


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.house", description=__doc__).parse_args()
    files = list_code_files()
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (PROJECT / "mnist_lit").rglob("*.py"))
    names = Counter(path.name for path in files)
    call_path = find_call_path()
    print(f"code files            {len(files)} (goal: at most {GOALS['code files']})")
    print(f"lines in mnist_lit/   {lines:,} (goal: at most {GOALS['lines in mnist_lit/']:,})")
    print(f"names used twice      {', '.join(name for name, count in names.items() if count > 1) or 'none'}")
    print(f"import cycle          {' → '.join(find_import_cycle()) or 'none'}")
    print(f"training in inference {' '.join(find_training_imports()) or 'none'}")
    goal = GOALS["files on the call path"]
    print(f"files on call path    {len(call_path)} (goal: at most {goal}): {', '.join(call_path)}")


def list_code_files() -> list[Path]:
    """Return the files of the package and the Hydra plugin, without `__init__.py`."""
    folders = (PROJECT / "mnist_lit", PROJECT / "hydra_plugins")
    return [path for folder in folders for path in sorted(folder.rglob("*.py")) if path.name != "__init__.py"]


def find_import_cycle() -> list[str]:
    """Return modules that import each other, or an empty list. Imports in functions count, those for types do not."""
    graph = {to_module_name(path): set(find_imports(path)) for path in sorted((PROJECT / "mnist_lit").rglob("*.py"))}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def find_imports(path: Path) -> Iterator[str]:
    for node in walk_without_type_checking(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if (PROJECT / f"{module.replace('.', '/')}.py").exists() else node.module


def walk_without_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from walk_without_type_checking(child)


def to_module_name(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def find_call_path() -> list[str]:
    """Return the files of this project on the call stack of the first optimizer step, and of the check before it."""
    with tempfile.TemporaryDirectory() as folder:
        words = run_code(CALL_PATH, str(PROJECT), str(Path(folder, "run"))).split("CALL_PATH")[1].split()
    return ["mnist_lit/process.py", "mnist_lit/preflight.py", *words]


def find_training_imports(run: Path | None = None) -> list[str]:
    """Return the training modules that predict, export and demo import."""
    return run_code(INFERENCE, *([str(run)] if run else [])).split()


def run_code(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=build_environment(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


if __name__ == "__main__":
    main()
