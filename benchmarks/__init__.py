"""Commands that measure: speed, and what a run survives. None of them belongs to the tests."""
