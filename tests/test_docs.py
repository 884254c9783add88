"""The READMEs in two languages say the same, and no link of the docs is dead."""

import math
import re
import shlex
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from benchmarks.lessons import SEARCHES
from mnist_lit.config import TrainConfig
from tests.configs import PROJECT, compose_config

ENGLISH, CHINESE = ((PROJECT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
PAGES = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob("benchmarks/*.md")]
PRESETS = sorted((PROJECT / "conf" / "experiment").glob("*.yaml"))
ARTICLES = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")).get("reference") for path in PRESETS}
TUTORIALS = PROJECT / "docs" / "zh" / "tutorials.md"


def code_blocks(text: str) -> list[str]:
    """Without comments, which are translated."""
    return [re.sub(r"\s*#.*", "", block) for block in re.findall(r"^```.*?^```", text, flags=re.DOTALL | re.MULTILINE)]


def numbers(text: str) -> list[str]:
    """All numbers outside code blocks, in alphabetical order, because the languages order words differently."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return sorted(re.findall(r"\d+(?:[.,]\d+)*", prose))


def test_both_readmes_have_the_same_commands_and_figures() -> None:
    assert code_blocks(ENGLISH) == code_blocks(CHINESE)
    assert len(code_blocks(ENGLISH)) > 5
    assert numbers(ENGLISH) == numbers(CHINESE)


def test_each_readme_links_to_the_other_one_and_to_the_tutorials() -> None:
    for page, other in ((ENGLISH, "README.zh-CN.md"), (CHINESE, "README.md")):
        top = page.split("\n## ")[0]
        assert f"]({other})" in top
        assert "](docs/zh/tutorials.md)" in top


def test_the_tutorials_page_has_the_figures_of_each_preset() -> None:
    page, results = TUTORIALS.read_text(encoding="utf-8"), (PROJECT / "docs" / "results.md").read_text(encoding="utf-8")
    rows = {cells[1].strip(): cells for row in results.splitlines() if len(cells := row.strip("| ").split("|")) == 11}
    for name, reference in ARTICLES.items():
        if not reference:
            continue
        assert rows[name][4].strip() in page, "the measured accuracy"
        assert not reference["loop_acc"] or f"{reference['loop_acc'] * 100:.2f} %" in page
        assert not reference["published"] or reference["published"].replace("to", "到") in page


@pytest.mark.parametrize("name", [name for name, reference in ARTICLES.items() if reference])
def test_the_pages_name_the_tutorial_of_each_preset(name: str) -> None:
    article = ARTICLES[name]["article"]
    for page in (ENGLISH, CHINESE, TUTORIALS.read_text(encoding="utf-8")):
        assert article in page
        assert name in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_no_link_to_a_file_or_a_heading_is_dead(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text) + [
        (name, "") for name in re.findall(r'<img src="([^"]+)"', text)
    ]
    for target, heading in links:
        if "://" in target:
            continue
        file = page.parent / target if target else page
        assert file.exists(), target
        if heading:
            assert heading in map(to_anchor, re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE))


COMMANDS = {
    command.strip()
    for page in (ENGLISH, CHINESE, TUTORIALS.read_text(encoding="utf-8"))
    for command in re.findall(r"(?<![^\s`])python train\.py ([^`\n#]*)", page)
    if "NAME" not in command and "--config-dir" not in command  # these need a name or files of the reader
}


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_options_of_a_printed_command_are_legal(command: str) -> None:
    words = [word for word in shlex.split(command) if word not in ("-m", "--cfg", "job")]
    for index, override in enumerate(OverridesParser.create().parse_overrides(words)):
        if override.is_sweep_override():
            words[index] = f"{override.key_or_group}={next(override.sweep_string_iterator())}"
    compose_config(*words)


@pytest.mark.parametrize("name", [name for name, reference in ARTICLES.items() if reference and name != "cnn"])
def test_the_options_in_a_tutorials_table_are_those_of_its_preset(name: str) -> None:
    command = re.compile(rf"^```text\npython train\.py (experiment={name}\b.*)", re.MULTILINE)
    (section,) = (part for part in TUTORIALS.read_text(encoding="utf-8").split("\n## ") if command.search(part))
    options: dict[str, str] = {}
    for row in re.findall(r"^\|.*", section, re.MULTILINE):
        for key, value in re.findall(r"`([a-z_.]+)=([^`\s]+)`", row):
            options.setdefault(key, value)  # the preset's value comes first, then others
    assert {"model", "loss", "optimizer", "optimizer.lr", "data.batch_size", "trainer.max_epochs"} <= set(options)
    by_hand = compose_config("scheduler=none", "data.fallback=null", *(f"{key}={options[key]}" for key in options))
    assert get_sections(by_hand) == get_sections(compose_config(*command.findall(section)[0].split()))


@pytest.mark.parametrize("name", [name for name, reference in ARTICLES.items() if reference and name != "cnn"])
def test_each_tutorial_has_one_change_to_try_beside_its_preset(name: str) -> None:
    changes = re.findall(
        rf"^python train\.py -m experiment={name} (\S+)=(\S+),(\S+)$",
        TUTORIALS.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert len(changes) == 1
    option, before, after = changes[0]
    preset, unchanged, changed = (
        get_sections(compose_config(f"experiment={name}", *more))
        for more in ([], [f"{option}={before}"], [f"{option}={after}"])
    )
    assert unchanged == preset
    assert sum(changed[group] != preset[group] for group in preset) == 1


def get_sections(config: TrainConfig) -> dict[str, object]:
    return {group: getattr(config, group) for group in ("data", "model", "loss", "optimizer", "scheduler", "trainer")}


LESSONS = [path for path in sorted((PROJECT / "conf" / "sweep").glob("*.yaml")) if path.stem not in SEARCHES]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_takes_as_long_as_was_measured(path: Path) -> None:
    lesson = yaml.safe_load(path.read_text(encoding="utf-8"))["lesson"]
    page = (PROJECT / "docs" / "lessons.md").read_text(encoding="utf-8")
    found = re.search(rf"sweep={path.stem}`\n\n.* It takes ([\d.]+) minutes", page)
    assert found
    assert lesson["shows"] in page
    assert lesson["point"] in page
    assert lesson["minutes"] == math.ceil(float(found[1]))


def to_anchor(heading: str) -> str:
    """As GitHub makes it: lower case, no punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
