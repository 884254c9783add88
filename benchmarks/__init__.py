"""Measurements, each a command of its own, whose latest figures are committed beside it or in docs/."""
