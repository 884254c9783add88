"""Amounts as they are said."""


def how_many(amount: int, noun: str) -> str:
    """Such as `1 job`, `2 jobs`, `1,000 jobs`."""
    return f"{amount:,} {noun}" + ("" if amount == 1 else "s")
