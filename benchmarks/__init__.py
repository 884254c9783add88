"""Measurements. Each is a command. The latest figures are in this folder or in docs/."""

import mnist_lit.process  # noqa: F401  # before torch: it sets how long the threads wait for each other
