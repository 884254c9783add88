"""How threads wait: shortly where other programs need the cores, and always with the same weights."""

import sys
import threading
from collections.abc import Callable

import pytest
import torch
from lightning.pytorch import Trainer

from mnist_lit.models import CNN
from mnist_lit.models.checkpoint_file import load_classifier, weights_digest
from mnist_lit.process import SPIN_COUNT
from mnist_lit.run_folder import BEST, CHECKPOINTS
from mnist_lit.training import run as training_run
from mnist_lit.training import waiting
from tests.conftest import Run

Start = Callable[..., Run]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="libgomp is the library of Linux")


class Company:
    """Simulates other programs: how often the system takes the core away from this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.switches = 0.0, 0
        monkeypatch.setenv("GOMP_SPINCOUNT", SPIN_COUNT)
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        monkeypatch.setattr(waiting, "_count_forced_switches", lambda: self.switches)
        monkeypatch.setattr(waiting.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def pass_a_second(self, callback: waiting.ThreadWaiting, switches: int) -> bool:
        self.now, self.switches = self.now + 1, self.switches + switches
        callback.on_train_batch_end(Trainer(logger=False), CNN(), None, None, 0)
        return callback.is_short


def test_threads_wait_shortly_only_while_others_need_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    company, callback, before = Company(monkeypatch), waiting.ThreadWaiting(), threading.active_count()
    callback.on_train_start(Trainer(logger=False), CNN())
    seconds = [(140, False), (900, False), (140, False), (900, False), (900, True), (9000, True), (140, False)]
    assert [company.pass_a_second(callback, switches) for switches, _ in seconds] == [short for _, short in seconds]
    assert [company.pass_a_second(callback, 900) for _ in range(2)] == [False, True]
    callback.on_train_end(Trainer(logger=False), CNN())
    for _ in range(500):
        if threading.active_count() == before:
            break
        threading.Event().wait(0.01)
    assert threading.active_count() == before, "the idle threads have ended"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert not any(company.pass_a_second(callback, 900) for _ in range(3)), "the environment decides"


@pytest.mark.slow
def test_the_weights_do_not_depend_on_how_threads_wait(run: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["model=cnn", "trainer.steps_per_execution=2"]
    monkeypatch.setattr(training_run, "useful_threads", lambda model, batch_size: 2)
    alone = run(*options, name="alone")
    started: list[threading.Event] = []
    monkeypatch.setenv("GOMP_SPINCOUNT", SPIN_COUNT)
    monkeypatch.setattr(waiting, "INTERVAL", 0.0)
    monkeypatch.setattr(waiting, "BUSY", -1)
    start = waiting.start_idle_threads
    monkeypatch.setattr(waiting, "start_idle_threads", lambda: started.append(start()) or started[-1])
    shared = run(*options, name="shared")
    assert started
    assert all(event.is_set() for event in started)
    first, second = (weights_digest(load_classifier(it.folder / CHECKPOINTS / BEST)) for it in (alone, shared))
    assert first == second
