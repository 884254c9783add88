"""The YAML file of each chosen group: what the options of a class look like, known without importing the class."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

GROUPS = ("data", "model", "loss", "optimizer", "scheduler", "trainer", "callbacks", "logger")


def read_defaults(
    choices: Mapping[str, str], loader: ConfigLoader, search_path: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """`optimizer` → the content of conf/optimizer/adam.yaml, if `adam` is chosen; likewise `callbacks.NAME`.

    `search_path` are overrides: they make the loader search more folders.
    """
    defaults: dict[str, dict[str, Any]] = {}
    for group in GROUPS:
        content = _read_group_file(group, choices.get(group), loader, search_path)
        if group in ("callbacks", "logger"):
            defaults |= {f"{group}.{name}": entry for name, entry in content.items() if isinstance(entry, dict)}
        else:
            defaults[group] = content
    return defaults


def _read_group_file(
    group: str, choice: str | None, loader: ConfigLoader, search_path: Sequence[str]
) -> dict[str, Any]:
    if not isinstance(choice, str):
        return {}
    repository = getattr(loader, "repository", None)
    file = repository.load_config(f"{group}/{choice}") if repository else None
    if file is not None and not file.defaults_list:
        section = file.config if file.header.get("package") is None else None
    else:  # a file that builds on others, or in a folder of hydra.searchpath: forty times as slow
        chosen = f"+{group}={QuotedString(choice, Quote.double).with_quotes()}"
        section = loader.load_configuration(None, [*search_path, chosen], RunMode.RUN).get(group)
    if not isinstance(section, DictConfig):
        return {}
    content = OmegaConf.to_container(section, resolve=False)
    return _without_references(content) if isinstance(content, dict) else {}


def _without_references(value: Any) -> Any:
    """`${…}` can stand for a value of any kind."""
    if isinstance(value, str):
        return None if "${" in value else value
    if isinstance(value, list):
        return [_without_references(item) for item in value]
    return {name: _without_references(item) for name, item in value.items()} if isinstance(value, dict) else value
