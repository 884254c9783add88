"""With pytest-xdist, each worker has one core: threads of several processes on one core would wait for each other."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
