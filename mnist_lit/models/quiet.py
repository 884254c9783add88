"""Keeps from the terminal what Lightning says there that helps no one who trains a digit classifier."""

import logging
import warnings

import lightning.pytorch  # noqa: F401  sets its loggers' levels when imported, so this comes first

for chatty in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(chatty).setLevel(logging.WARNING)  # a run says itself which device it takes
warnings.filterwarnings("ignore", message=".*torch.jit.trace.*is deprecated")  # TensorBoard's graph needs it
warnings.filterwarnings("ignore", message=".*sync_dist=True")  # what is logged is the same on every rank
warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty")  # a run resumed
warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")  # torch 2.15 to Lightning 2.6
