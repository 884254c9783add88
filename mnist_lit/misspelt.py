"""Options that do not exist: which are meant, and which there are. Imports no torch."""

from difflib import get_close_matches

from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError


def no_such_option(error: Exception) -> str | None:
    """What to say if that is what Hydra's error is about: in the place of its advice to append with a +, which leads to
    the next error."""
    cause = error.__cause__
    if not (str(error).startswith("Could not override") and isinstance(cause, ConfigKeyError | ConfigAttributeError)):
        return None
    if not isinstance(cause.parent_node, DictConfig):
        return None
    parent, key = cause.parent_node, str(cause.key)
    legal = [str(name) for name in parent if name not in ("_target_", "name")]
    inner: list[str] = []
    if cause.full_key == key:  # at the top, where all options have a section's name before them
        legal.append("experiment")  # no key of a composed config
        inner = [f"{section}.{name}" for section in legal for name in _names(parent, section)]
    meant = [option for option in inner if option.endswith(key)] or get_close_matches(key, legal, n=1)
    hint = f"did you mean {' or '.join(meant)}? " if meant else ""
    return f"{cause.full_key}: there is no such option; {hint}legal: {', '.join(sorted(legal)) or 'none'}"


def _names(config: DictConfig, section: str) -> list[str]:
    part = config.get(section)
    return [str(name) for name in part] if isinstance(part, DictConfig) and section != "hydra" else []
