"""Data-parallel training: torchrun starts one process a device, each trains the config in the run's folder.

Lightning's own launcher would run the command line again, and with `-m` enter the sweep a second time.
"""

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from mnist_lit.config import TrainConfig
from mnist_lit.durable import write_text
from mnist_lit.errors import UserError
from mnist_lit.models.meter import LossNotFinite
from mnist_lit.signals import RunInterrupted, on_signals, stop
from mnist_lit.training.checkpoints import position, recover_checkpoint
from mnist_lit.training.console import ConsoleHandler
from mnist_lit.training.result import RESULT
from mnist_lit.training.resume import hold, recorded, run_config

PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
GRACE = 45  # seconds that the ranks have to write their checkpoint and stop; after 30 torchrun kills them itself


def train_in_ranks(config: TrainConfig, folder: Path, origin: dict[str, Any], *, resume: bool) -> dict[str, Any]:
    """As `train`, with `trainer.devices` processes.

    Raises:
        UserError: if a rank failed; the others are stopped then.
        RunInterrupted: on Ctrl-C or SIGTERM, once the ranks have stopped.
    """
    with hold(folder):
        if resume and (checkpoint := recover_checkpoint(folder / "checkpoints")):
            position(checkpoint, config.trainer.max_epochs)  # before its config is written over
        write_text(folder / "config.yaml", yaml.safe_dump(config.model_dump(by_alias=True), sort_keys=False))
        ranks = subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                f"--nproc-per-node={config.trainer.devices}",
                *("-m", "mnist_lit.training.ranks", str(folder), json.dumps(origin), str(int(resume))),
            ],
            env={"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // config.trainer.devices))}
            | os.environ
            | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdout=None if speaks() else subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C comes to this process alone, and is passed on below
            preexec_fn=_end_with_parent,
        )
        try:
            code = ranks.wait()
        except RunInterrupted:
            ranks.terminate()
            try:
                ranks.wait(GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(ranks.pid, signal.SIGKILL)
                ranks.wait()
            raise
    result = recorded(folder)
    if code != 0:
        if result.get("status") == "running":
            write_text(
                folder / RESULT, json.dumps(result | {"status": "failed", "error": "a rank died"}, indent=2) + "\n"
            )
        raise UserError(f"a rank failed ({result.get('error', 'a rank died')}); what it said stands above")
    return result


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent dies, even of `kill -9`. Where there is no such thing, ranks left
    alone train to their end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main() -> None:
    """What torchrun starts: one rank."""
    from mnist_lit.training.run import train

    on_signals(stop)
    folder, origin, resume = Path(sys.argv[1]), json.loads(sys.argv[2]), bool(int(sys.argv[3]))
    log_to(folder / "train.log")
    try:
        train(run_config(folder), folder, origin, resume=resume)
    except (UserError, LossNotFinite) as error:
        sys.exit(f"error: {error}")


def speaks() -> bool:
    """Whether this process tells the run's story on the terminal; a job of a sweep does not."""
    return any(isinstance(handler, ConsoleHandler) for handler in logging.getLogger().handlers)


def log_to(path: Path) -> None:
    """The first rank speaks for all."""
    if os.environ["RANK"] != "0":
        logging.disable(logging.WARNING)
        return
    to_file = logging.FileHandler(path)
    to_file.setFormatter(logging.Formatter("[%(asctime)s] %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[ConsoleHandler(), to_file], format="%(message)s")


if __name__ == "__main__":
    main()
