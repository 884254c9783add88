"""The story of a run: checked, trained, tested, recorded."""
