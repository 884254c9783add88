"""What each trick is worth: the same training with it and without it, and what was tried and left out."""

from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import torch
from hydra.core.utils import env_override
from torch import Tensor, nn

from benchmarks.opponents import UpdateOf, repeat_step
from benchmarks.processes import train_py
from benchmarks.product import DEFAULTS, config_of, run, train_seconds
from benchmarks.rounds import Row, medians, ratio, spread, take_turns
from mnist_lit.data import loader
from mnist_lit.models.updates import fast_update
from mnist_lit.training import run as training_run
from mnist_lit.training.build import build_data, build_model

Pair = tuple[Callable[[], float], Callable[[], float]]  # with the trick, and without
STEPS = 300


def tricks(rounds: int, quick: bool) -> list[Row]:
    return [
        row("blocks of steps", "one batch a call", "mlp_4x64, batch 64, a run", rounds, *blocks()),
        row("the kernel's arguments kept", "optimizer.step()", "mlp_4x64, batch 15, steps", rounds, *kept_arguments()),
        row("fused Adam", "plain Adam", "mlp_500, batch 100, steps", rounds, *fused()),
        row("samples prepared together", "batch by batch", "mlp_4x64, batch 15, a run", rounds, *together()),
        row("pooling before ReLU", "after it", "cnn, batch 64, steps", rounds, *pooling()),
        row("channels_last", "contiguous", "cnn, batch 64, steps", rounds, *channels_last()),
        *(
            row("left out: torch.compile", "eager", f"{model}, batch {size}, steps", rounds, *compiled(model, size))
            for model, size in (("mlp_4x64", 64), ("cnn", 64), ("fast_cnn", 128))[: 1 if quick else None]
        ),
        *(
            row("one thread", "all", f"{model}, batch {size}, a run", rounds, *one_thread(model, size))
            for model, size in (("mlp_4x64", 15), ("mlp_4x64", 64), ("mlp_128_64", 64), ("mlp_500", 100))
        ),
        row("freed memory kept", "malloc as it is", "mlp_500, batch 100, a run", rounds, *kept_memory()),
        row("left out: no normalisation", "normalising", "mlp_4x64, batch 64, steps", rounds, *no_normalisation()),
    ]


def row(
    trick: str, otherwise: str, where: str, rounds: int, with_it: Callable[[], float], without: Callable[[], float]
) -> Row:
    seconds = take_turns({"with it": with_it, "without": without}, rounds)
    return Row(
        f"{trick}, against {otherwise}: {where}",
        ratio(seconds["with it"], seconds["without"]),
        None,
        at_most=True,
        detail=f"{spread(seconds['with it'], seconds['without'])}; {medians(seconds)}",
    )


def training(*overrides: str) -> float:
    return train_seconds(run(*DEFAULTS, "callbacks=none", "trainer.max_epochs=1", *overrides), 1)


def steps(
    model: str,
    batch_size: int,
    update: UpdateOf = fast_update,
    change: Callable[[nn.Module], nn.Module] = lambda network: network,
    fuse: bool = True,
    prepare: Callable[[Tensor], Tensor] = lambda images: images,
) -> float:
    """Seconds of so many optimiser steps on one batch, after some that do not count."""
    config = config_of(*DEFAULTS, f"model={model}", f"data.batch_size={batch_size}")
    data = build_data(config)
    network = change(build_model(config, data.steps_per_epoch).network)
    optimizer = torch.optim.Adam(network.parameters(), fused=fuse)
    part = data.splits.train[torch.arange(batch_size)]
    images = data.normalize(part.images)

    def train(count: int) -> float:
        return repeat_step(lambda images: network(prepare(images)), optimizer, images, part.labels, count, update)

    train(10)
    return train(STEPS)


def blocks() -> Pair:
    ours = ["model=mlp_4x64", "data.batch_size=64"]
    return partial(training, *ours), partial(training, *ours, "trainer.steps_per_execution=1")


def kept_arguments() -> Pair:
    return partial(steps, "mlp_4x64", 15), partial(steps, "mlp_4x64", 15, lambda optimizer: optimizer.step)


def fused() -> Pair:
    torchs_own: UpdateOf = lambda optimizer: optimizer.step  # noqa: E731
    return partial(steps, "mlp_500", 100, torchs_own), partial(steps, "mlp_500", 100, torchs_own, fuse=False)


def together() -> Pair:
    ours = ["model=mlp_4x64", "data.batch_size=15"]

    def batch_by_batch() -> float:
        with patch.object(loader, "TOGETHER", 1):
            return training(*ours)

    return partial(training, *ours), batch_by_batch


def pooling() -> Pair:
    def relu_first(network: nn.Module) -> nn.Module:
        layers = list(network.children())
        return nn.Sequential(layers[0], layers[2], layers[1], *layers[3:])

    return partial(steps, "cnn", 64), partial(steps, "cnn", 64, change=relu_first)


def channels_last() -> Pair:
    def contiguous(network: nn.Module) -> nn.Module:
        return network.to(memory_format=torch.contiguous_format)

    return partial(steps, "cnn", 64), partial(steps, "cnn", 64, change=contiguous)


def compiled(model: str, batch_size: int) -> Pair:
    """Without the compilation itself, which takes seconds."""

    def compile_it(network: nn.Module) -> nn.Module:
        torch.compiler.reset()
        network.compile()
        return network

    return partial(steps, model, batch_size, change=compile_it), partial(steps, model, batch_size)


def one_thread(model: str, batch_size: int) -> Pair:
    """Runs take it for the smallest networks alone: see `threads_worth_having`."""
    ours = [f"model={model}", f"data.batch_size={batch_size}"]

    def on(threads: int) -> float:
        with patch.object(training_run, "threads_worth_having", lambda model, batch_size: threads):
            return training(*ours)

    return partial(on, 1), partial(on, torch.get_num_threads())


def kept_memory() -> Pair:
    """In processes of their own: malloc cannot be set back."""
    ours = [*DEFAULTS, "callbacks=none", "trainer.max_epochs=1", "model=mlp_500", "data.batch_size=100"]

    def run_with(**environment: str) -> float:
        with env_override(environment):
            return train_py(*ours)[1]

    return run_with, partial(run_with, MALLOC_ARENA_TEST="8")  # what glibc takes anyway, but now we leave malloc alone


def no_normalisation() -> Pair:
    """The most that folding it into the first layer could save."""
    normalize = loader.Normalize(0.1307, 0.3081)
    return partial(steps, "mlp_4x64", 64), partial(steps, "mlp_4x64", 64, prepare=normalize)
