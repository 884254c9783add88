"""Puts figures into a page of the documentation."""

from pathlib import Path


def replace_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what is between two marks. Raises ValueError if the page does not have both of them once."""
    before, rest = page.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    page.write_text(before + begin + text + end + after, encoding="utf-8")
