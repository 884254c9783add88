"""`python -m mnist_lit` is `mnist-lit`."""

from mnist_lit.cli import main

main()
