"""Every text file of the project is UTF-8, whatever the locale: LC_ALL=C, cp1252, gbk."""

import ast
from collections.abc import Iterator

import pytest

from tests.configs import PROJECT

BINARY_OPEN = ("os", "Image", "gzip", "webbrowser")  # gzip.open reads bytes unless it is told otherwise
CODE = [
    PROJECT / "train.py",
    *(
        path
        for name in ("mnist_lit", "hydra_plugins", "tests", "benchmarks")
        for path in (PROJECT / name).rglob("*.py")
    ),
]


def find_calls_without_encoding(code: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and _is_text(node) and "encoding" not in {word.arg for word in node.keywords}:
            yield node


def _is_text(call: ast.Call) -> bool:
    """Whether the call reads or writes text, in the encoding of the locale unless it names one."""
    words = {word.arg: word.value for word in call.keywords}
    if any(
        isinstance(value := words.get(name), ast.Constant) and value.value for name in ("text", "universal_newlines")
    ):
        return True
    owner, name = "", ""
    if isinstance(call.func, ast.Name):
        name = call.func.id
    elif isinstance(call.func, ast.Attribute):
        owner = call.func.value.id if isinstance(call.func.value, ast.Name) else "an object"
        name = call.func.attr
    if name in ("read_text", "write_text"):
        return bool(owner) and len(call.args) == (name == "write_text")
    if name in ("TextIOWrapper", "FileHandler"):
        return True
    is_method = bool(owner) and owner not in ("io", "os", "tempfile", "codecs", "gzip")
    mode = next(iter(call.args[0 if is_method or "Temporary" in name else 1 :]), words.get("mode"))
    if name in ("NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile"):
        return isinstance(mode, ast.Constant) and "b" not in str(mode.value)
    if (name == "open" and owner not in BINARY_OPEN) or name == "fdopen":
        return not (isinstance(mode, ast.Constant) and "b" in str(mode.value))
    return name == "open" and owner == "gzip" and isinstance(mode, ast.Constant) and "t" in str(mode.value)


def test_every_text_file_is_read_and_written_as_utf_8() -> None:
    found = [
        f"{path.relative_to(PROJECT)}:{call.lineno}"
        for path in CODE
        for call in find_calls_without_encoding(path.read_text(encoding="utf-8"))
    ]
    assert found == [], 'add encoding="utf-8" there'


@pytest.mark.parametrize(
    "code",
    [
        "open(path)",
        "open(path, 'w')",
        "path.open()",
        "path.open('a', newline='')",
        "io.open(path, mode='w')",
        "os.fdopen(3, 'w')",
        "gzip.open(path, 'rt')",
        "path.read_text()",
        "Path('a').write_text('x')",
        "subprocess.run(command, text=True)",
        "Popen(command, universal_newlines=True)",
        "tempfile.NamedTemporaryFile('w')",
        "io.TextIOWrapper(stream)",
        "logging.FileHandler(path)",
    ],
)
def test_a_call_without_encoding_is_found(code: str) -> None:
    assert list(find_calls_without_encoding(code))


@pytest.mark.parametrize(
    "code",
    [
        "open(path, 'rb')",
        "path.open('wb')",
        "open(path, encoding='utf-8')",
        "os.open(path, 0)",
        "Image.open(path)",
        "gzip.open(path)",
        "path.read_text('utf-8')",
        "write_text(path, text)",
        "subprocess.run(command)",
        "tempfile.NamedTemporaryFile(dir=folder)",
    ],
)
def test_bytes_need_no_encoding(code: str) -> None:
    assert not list(find_calls_without_encoding(code))
