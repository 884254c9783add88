"""Trains one digit classifier, or many with `-m`: `python train.py model=cnn optimizer=adam`."""

from mnist_lit import quick_exit, signals  # quick_exit before all else: so it is run after all else

if __name__ in ("__main__", "__mp_main__"):  # the second is a search's worker
    signals.on_signals(signals.stop_dead)  # first of all: the rest takes a while to import

import hydra
from omegaconf import DictConfig

from mnist_lit import front_door
from mnist_lit.importing import importing


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float:
    with importing():  # torch: only once the config is known to be good
        from mnist_lit.training.job import run_job

    return run_job(cfg)


if __name__ == "__main__":
    front_door.enter(main)
    quick_exit.done()
