"""How the threads of a run wait for each other on a CPU.

They wait many times in each step. libgomp, which starts torch's threads, lets a waiting thread spin for a while before
it sleeps, because most waits are shorter than the time to wake up. But if another program needs the core, a spinning
thread delays both programs. libgomp spins for a much shorter time while a process has more threads than there are
cores. So a run that shares the cores starts idle threads. The weights do not depend on it.
"""

import os
import sys
import threading
import time
from math import ceil
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lit.process import SPIN_COUNT, usable_cores

INTERVAL = 0.5  # seconds between two decisions
BUSY = 120  # a second for each thread: how often the system takes the core away. Alone 70, beside another run from 136


class ThreadWaiting(Callback):
    """Shortens the spinning while other programs need the cores. If the environment sets it, nothing changes."""

    def __init__(self) -> None:
        self._released: threading.Event | None = None  # set: the idle threads end
        self._decided_at = 0.0
        self._switches = 0
        self._busy_before = False

    @property
    def is_short(self) -> bool:
        return self._released is not None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        elapsed = time.monotonic() - self._decided_at
        if elapsed < INTERVAL or torch.get_num_threads() == 1 or not _may_change():
            return
        before, self._switches = self._switches, _count_forced_switches()
        self._decided_at = time.monotonic()
        is_busy = (self._switches - before) / elapsed > BUSY * torch.get_num_threads()
        if is_busy and self._busy_before and not self.is_short:  # one busy interval may be by chance
            self._released = start_idle_threads()
        elif not is_busy:
            self._release()
        self._busy_before = is_busy

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._decided_at, self._switches = time.monotonic(), _count_forced_switches() if _may_change() else 0

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._release()

    def _release(self) -> None:
        if self._released:
            self._released.set()
            self._released = None


def start_idle_threads() -> threading.Event:
    """More threads in libgomp's count than there are cores. They do nothing, and end when the event is set."""
    released, threads = threading.Event(), torch.get_num_threads()

    def hold_team() -> None:
        torch.zeros(2**20).add_(1)  # the first parallel work of a Python thread starts a team of its own
        released.wait()

    for _ in range(max(1, ceil((usable_cores() + 1 - threads) / (threads - 1)))):
        threading.Thread(target=hold_team, daemon=True).start()
    return released


def _may_change() -> bool:
    is_ours = os.environ.get("GOMP_SPINCOUNT") == SPIN_COUNT and "OMP_WAIT_POLICY" not in os.environ
    return sys.platform == "linux" and is_ours


def _count_forced_switches() -> int:
    """How often the system took the core away from a thread of this process that had work."""
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
