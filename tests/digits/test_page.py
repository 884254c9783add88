"""The page in a real browser: digits drawn with the mouse and with the keyboard are read while they are drawn."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.own_strokes import written
from benchmarks.own_styles import STYLES
from tests.conftest import PROJECT

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.mnist,
    pytest.mark.skipif(CHROMIUM is None, reason=f"no browser is installed ({', '.join(NAMES)})"),
]


@pytest.fixture(scope="module")
def address(good_run: Path) -> Iterator[str]:
    command = [sys.executable, "-c", "from mnist_lit.cli import main; main()", "demo", str(good_run), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
    demo = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert demo.stdout
    demo.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/", demo.stdout.readline())
    assert found
    yield found[0]
    demo.terminate()
    demo.wait(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as tools:
        chromium = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(params=["light", "dark"])
def page(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    page = browser.new_page(color_scheme=request.param, viewport={"width": 1000, "height": 800})
    page.asked, page.faults = [], []
    page.on("request", lambda asked: page.asked.append(asked.url))
    page.on("pageerror", lambda fault: page.faults.append(str(fault)))
    page.goto(address)
    yield page
    assert page.faults == []
    assert all(url.startswith((address, "data:", "blob:")) for url in page.asked)
    page.close()


def draw(page: Any, digit: int, rng: np.random.Generator) -> None:
    box = page.locator("#pad").bounding_box()
    corner, size = np.array([box["x"], box["y"]]), np.array([box["width"], box["height"]])
    for stroke in written(digit, rng):
        points = corner + size * (0.2 + 0.6 * stroke[[*range(0, len(stroke), 8), -1]])
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()


def until(page: Any, condition: str) -> None:
    """playwright's own way of waiting is forbidden by the page's content security policy."""
    deadline = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(10)


def answer(page: Any) -> str:
    """What the page says once it has answered the newest drawing."""
    until(page, "!asking && !stale")
    return str(page.inner_text("#answer"))


def test_drawn_digits_are_read(page: Any) -> None:
    rng, read = np.random.default_rng(1), []
    for digit in range(10):
        page.keyboard.press("Escape")
        draw(page, digit, rng)
        read.append(answer(page))
    assert sum(said == str(digit) for digit, said in enumerate(read)) >= 9, read
    assert page.locator("#bars li.best").count() == 1
    seen = page.evaluate("[...at('seen').getContext('2d').getImageData(0, 0, 28, 28).data].filter(v => v > 128).length")
    assert seen > 28 * 28, "beside the opaque channel some pixels are lit"


def test_undo_takes_back_a_stroke_and_clear_everything(page: Any) -> None:
    draw(page, 1, np.random.default_rng(0))
    strokes = page.evaluate("strokes.length")
    draw(page, 1, np.random.default_rng(0))
    for _ in range(strokes):
        page.click("#undo")
    assert page.evaluate("strokes.length") == strokes
    page.click("#clear")
    assert answer(page) == "Nothing drawn yet"
    assert page.is_disabled("#undo")


def test_the_keyboard_draws(page: Any) -> None:
    page.focus("#pad")
    for _ in range(10):
        page.keyboard.press("ArrowUp")
    page.keyboard.press(" ")
    for _ in range(22):
        page.keyboard.press("ArrowDown")
    page.keyboard.press(" ")
    assert answer(page) == "1"


def test_a_picture_is_uploaded_and_a_broken_one_is_said_to_be(page: Any, tmp_path: Path) -> None:
    (tmp_path / "four.jpg").write_bytes(STYLES["squared paper"](4, np.random.default_rng(0)))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page.set_input_files("#file", tmp_path / "four.jpg")
    until(page, "at('answer').textContent === '4'")
    page.set_input_files("#file", tmp_path / "broken.png")
    until(page, "at('answer').textContent.includes('no picture')")


def test_on_a_phone_nothing_is_wider_than_the_screen(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    draw(page, 8, np.random.default_rng(0))
    answer(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
