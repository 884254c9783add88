"""Measurements, each a command of its own, whose latest figures are committed beside it or in docs/."""

import mnist_lit.importing  # noqa: F401  # before torch: how long its threads wait for each other
