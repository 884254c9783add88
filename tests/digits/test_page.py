"""The page in a real browser: it reads digits while they are drawn with the mouse or the keyboard."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.configs import PROJECT
from tests.digits.pen_strokes import write_digit
from tests.digits.picture_styles import STYLES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of the demo with the network that comes with the package."""
    command = [sys.executable, "-c", "from mnist_lit.cli import main; main()", "demo", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
    demo = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, encoding="utf-8")
    assert demo.stdout
    assert "network of mnist-lit" in demo.stdout.readline()
    url = re.search(r"http://127\.0\.0\.1:\d+/", demo.stdout.readline())
    assert url
    yield url[0]
    demo.terminate()
    demo.wait(20)


@pytest.fixture(params=["light", "dark"])
def page(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    page = browser.new_page(color_scheme=request.param, viewport={"width": 1000, "height": 800})
    page.urls, page.errors = [], []
    page.on("request", lambda sent: page.urls.append(sent.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(address)
    yield page
    assert page.errors == []
    assert all(url.startswith((address, "data:", "blob:")) for url in page.urls)
    page.close()


def draw(page: Any, digit: int, rng: np.random.Generator) -> None:
    box = page.locator("#pad").bounding_box()
    corner, size = np.array([box["x"], box["y"]]), np.array([box["width"], box["height"]])
    for stroke in write_digit(digit, rng):
        points = corner + size * (0.2 + 0.6 * stroke[[*range(0, len(stroke), 8), -1]])
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()


def wait_until(page: Any, condition: str) -> None:
    """The page's content security policy forbids playwright's own `wait_for_function`."""
    deadline = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(10)


def read_answer(page: Any) -> str:
    """The text of the page after it has read the newest drawing."""
    wait_until(page, "!busy && !stale")
    return str(page.inner_text("#answer"))


def test_drawn_digits_are_read(page: Any) -> None:
    rng, answers = np.random.default_rng(1), []
    for digit in range(10):
        page.keyboard.press("Escape")
        draw(page, digit, rng)
        answers.append(read_answer(page))
    assert sum(answer == str(digit) for digit, answer in enumerate(answers)) >= 9, answers
    assert page.locator("#bars li.best").count() == 1
    seen = page.evaluate("[...at('seen').getContext('2d').getImageData(0, 0, 28, 28).data].filter(v => v > 128).length")
    assert seen > 28 * 28, "only the alpha channel has values"


def test_undo_removes_a_stroke_and_clear_removes_all(page: Any) -> None:
    draw(page, 1, np.random.default_rng(0))
    strokes = page.evaluate("strokes.length")
    draw(page, 1, np.random.default_rng(0))
    for _ in range(strokes):
        page.click("#undo")
    assert page.evaluate("strokes.length") == strokes
    page.click("#clear")
    assert read_answer(page) == "Nothing drawn yet"
    assert page.is_disabled("#undo")


def test_the_keyboard_can_draw(page: Any) -> None:
    page.focus("#pad")
    for _ in range(10):
        page.keyboard.press("ArrowUp")
    page.keyboard.press(" ")
    for _ in range(22):
        page.keyboard.press("ArrowDown")
    page.keyboard.press(" ")
    assert read_answer(page) == "1"


def test_a_picture_can_be_uploaded_and_a_broken_one_gives_a_message(page: Any, tmp_path: Path) -> None:
    (tmp_path / "four.jpg").write_bytes(STYLES["squared paper"](4, np.random.default_rng(0)))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page.set_input_files("#file", tmp_path / "four.jpg")
    wait_until(page, "at('answer').textContent === '4'")
    page.set_input_files("#file", tmp_path / "broken.png")
    wait_until(page, "at('answer').textContent.includes('no picture')")


def test_the_same_picture_can_be_uploaded_again_after_undo(page: Any, tmp_path: Path) -> None:
    (tmp_path / "four.jpg").write_bytes(STYLES["squared paper"](4, np.random.default_rng(0)))
    for _ in range(2):
        page.set_input_files("#file", tmp_path / "four.jpg")
        wait_until(page, "at('answer').textContent === '4'")
        assert page.evaluate("at('file').value") == "", "with the same value, the browser reports no change"
        page.click("#undo")
        wait_until(page, "at('answer').textContent !== '4'")


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_can_be_dropped_or_pasted(page: Any, kind: str) -> None:
    content = list(STYLES["squared paper"](4, np.random.default_rng(0)))
    page.evaluate(
        """([kind, content]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(content)], "four.jpg", {type: "image/jpeg"}));
            const options = {bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data};
            document.body.dispatchEvent(new (kind === "drop" ? DragEvent : ClipboardEvent)(kind, options));
        }""",
        [kind, content],
    )
    wait_until(page, "at('answer').textContent === '4'")


def test_on_a_phone_the_answer_stands_right_under_the_pad(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    draw(page, 8, np.random.default_rng(0))
    read_answer(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    boxes = [page.locator(name).bounding_box() for name in ("#pad", "#answer", "#clear", "#help")]
    for upper, lower in pairwise(boxes):
        assert upper["y"] + upper["height"] <= lower["y"]
    assert boxes[1]["y"] + boxes[1]["height"] < 740


def test_a_picture_that_comes_while_another_is_read_is_sent_whole(page: Any) -> None:
    content = list(STYLES["squared paper"](4, np.random.default_rng(0)))
    page.evaluate(
        """content => {
            const file = new File([new Uint8Array(content)], "four.jpg"), send = window.fetch;
            window.sent = [];
            window.fetch = (url, options) => { sent.push(options.body.size); return send(url, options); };
            readFile(file).then(() => readFile(file));
        }""",
        content,
    )
    wait_until(page, "at('answer').textContent === '4' && !busy && sent.length === 2")
    assert page.evaluate("sent") == [len(content)] * 2


def test_after_undo_the_file_is_sent_again_not_the_pad(page: Any) -> None:
    content = list(STYLES["squared paper"](4, np.random.default_rng(0)))
    page.evaluate(
        """content => {
            const send = window.fetch;
            window.sent = [];
            window.fetch = (url, options) => { sent.push(options.body.size); return send(url, options); };
            readFile(new File([new Uint8Array(content)], "four.jpg", {type: "image/jpeg"}));
        }""",
        content,
    )
    wait_until(page, "sent.length === 1 && !busy")
    draw(page, 1, np.random.default_rng(0))
    read_answer(page)
    for _ in range(page.evaluate("strokes.length")):
        page.click("#undo")
    assert read_answer(page) == "4"
    assert page.evaluate("sent.at(-1)") == len(content)


def test_a_picture_that_is_cleared_while_it_is_decoded_does_not_come_back(page: Any) -> None:
    page.evaluate(
        """content => {
            const decoded = readFile(new File([new Uint8Array(content)], "four.jpg", {type: "image/jpeg"}));
            clear();
            return decoded;
        }""",
        list(STYLES["squared paper"](4, np.random.default_rng(0))),
    )
    assert read_answer(page) == "Nothing drawn yet"
    assert page.evaluate("picture === null")
