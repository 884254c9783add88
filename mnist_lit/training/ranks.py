"""Data-parallel training: torchrun starts one process a device, and each trains the config in the run's folder.

Lightning's own launcher would run the command line again, and with `-m` start the sweep a second time.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from mnist_lit import process
from mnist_lit.config import TrainConfig
from mnist_lit.console import ConsoleHandler
from mnist_lit.errors import UserError, describe_disk_error
from mnist_lit.process import RunInterrupted, usable_cores
from mnist_lit.run_folder import (
    CHECKPOINTS,
    LOG,
    is_first_rank,
    lock_folder,
    read_config,
    read_result,
    write_config,
    write_result,
)
from mnist_lit.training.checkpoints import recover_checkpoint, step_of_checkpoint
from mnist_lit.training.step import LossNotFinite

STOP_LIMIT = 45  # seconds for the ranks to write their checkpoint and stop; torchrun itself kills them after 30


def train_in_ranks(config: TrainConfig, folder: Path, origin: dict[str, Any], *, resume: bool) -> dict[str, Any]:
    """As `train`, with `trainer.devices` processes.

    Raises:
        UserError: if a rank failed; the others are then stopped.
        RunInterrupted: on Ctrl-C or SIGTERM, after the ranks have stopped.
    """
    with lock_folder(folder):
        if resume and (checkpoint := recover_checkpoint(folder / CHECKPOINTS)):
            step_of_checkpoint(checkpoint, config.trainer.max_epochs)  # before the config is overwritten
        write_config(folder, config)
        ranks = subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                "--local-addr=127.0.0.1",  # or it would look up the machine's own name, which may have no address
                f"--nproc-per-node={config.trainer.devices}",
                *("-m", "mnist_lit.training.ranks", str(folder), json.dumps(origin), str(int(resume))),
            ],
            env={"OMP_NUM_THREADS": str(max(1, usable_cores() // config.trainer.devices))}
            | {name: value for name, value in os.environ.items() if not name.startswith("PET_")}  # torchrun's options
            | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.PIPE,  # it closes when this process ends, however it ends
            stdout=None if _prints_to_terminal() else subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on below
        )
        try:
            code = ranks.wait()
        except (RunInterrupted, KeyboardInterrupt):
            ranks.terminate()
            try:
                ranks.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                ranks.kill()
                ranks.wait()
            raise
    result = read_result(folder)
    if code != 0:
        if result.get("status") == "running":
            write_result(folder, result | {"status": "failed", "error": "a rank died"})
        raise UserError(f"a rank failed ({result.get('error', 'a rank died')}); its own message is above")
    return result


def main() -> None:
    """One rank, started by torchrun."""
    from mnist_lit.training.run import train

    process.set_signal_handler(process.raise_on_signal)
    process.set_up_program()
    process.rank = int(os.environ["RANK"])
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    folder, origin, resume = Path(sys.argv[1]), json.loads(sys.argv[2]), bool(int(sys.argv[3]))
    _log_to(folder / LOG)
    try:
        train(read_config(folder), folder, origin, resume=resume)
    except (UserError, LossNotFinite) as error:
        sys.exit(f"error: {error}")
    except Exception as error:  # as in a run of one process
        if (said := describe_disk_error(error)) is None:
            raise
        sys.exit(f"error: {said}")


def _stop_with_parent() -> None:
    """Stop this rank when the process that started the ranks is gone, even after `kill -9`."""
    while os.read(0, 1):  # blocks until the pipe closes
        pass
    signal.raise_signal(signal.SIGTERM)


def _prints_to_terminal() -> bool:
    """False in a job of a sweep."""
    loggers = logging.getLogger(), logging.getLogger("mnist_lit")  # of train.py, of mnist_lit.train
    return any(isinstance(handler, ConsoleHandler) for logger in loggers for handler in logger.handlers)


def _log_to(path: Path) -> None:
    """Only the first rank logs."""
    if not is_first_rank():
        logging.disable(logging.WARNING)
        return
    to_file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    to_file.setFormatter(logging.Formatter("[%(asctime)s] %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[ConsoleHandler(), to_file], format="%(message)s")


if __name__ == "__main__":
    main()
