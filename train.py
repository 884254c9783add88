"""Trains one digit classifier, or many with `-m`: `python train.py model=cnn optimizer=adam`."""

from mnist_lit import process  # first: its exit function has to be registered before any other

if __name__ in ("__main__", "__mp_main__"):  # __mp_main__ is a worker of a search
    process.set_signal_handler(process.exit_on_signal)  # early: the imports below take a while
    process.set_up_program()

from mnist_lit import hydra_app

if __name__ == "__main__":
    hydra_app.run_app()
    process.exit_quickly()
