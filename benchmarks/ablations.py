"""Measures the effect of each trick: the same training with it and without it. Includes tricks that are not used."""

from collections.abc import Callable, Iterator
from functools import partial
from unittest.mock import patch

import torch
from hydra.core.utils import env_override
from torch import Tensor, nn

from benchmarks.baselines import PrepareUpdate, time_steps
from benchmarks.measurement import Row, compare, take_turns
from benchmarks.processes import run_train_py
from benchmarks.runner import DEFAULTS, compute_train_seconds, run_training
from mnist_lit.build import build_data, build_model
from mnist_lit.data import loader
from mnist_lit.private_apis import fast_update
from mnist_lit.training import run as training_run
from tests.configs import compose_config

Pair = tuple[Callable[[], float], Callable[[], float]]  # training with the trick and without it
STEPS = 300
KEEP_DENORMALS = """
import contextlib
from mnist_lit import hydra_app, isolation
isolation.flushing_denormals = contextlib.nullcontext
hydra_app.run_app()
"""


def measure_ablations(rounds: int, quick: bool) -> list[Row]:
    """Each trick: time with it relative to time without it."""
    rows = []
    for what, (with_it, without) in list_ablations(quick):
        seconds = take_turns({"with it": with_it, "without": without}, rounds)
        rows.append(compare(what, seconds["with it"], seconds["without"], seconds=seconds))
    return rows


def list_ablations(quick: bool) -> Iterator[tuple[str, Pair]]:
    yield "blocks of steps, relative to one batch per call: mlp_4x64, batch 64, in a run", compare_blocks()
    what = "kernel arguments prepared once, relative to optimizer.step(): mlp_4x64, batch 15, steps only"
    yield what, compare_prepared_arguments()
    yield "fused Adam, relative to plain Adam: mlp_500, batch 100, steps only", compare_fused_adam()
    what = "several batches prepared at once, relative to one batch at a time: mlp_4x64, batch 15, in a run"
    yield what, compare_batch_preparation()
    yield "pooling before ReLU, relative to pooling after ReLU: cnn, batch 64, steps only", compare_pooling()
    yield "channels_last, relative to contiguous: cnn, batch 64, steps only", compare_channels_last()
    for model, size in (("mlp_4x64", 64), ("cnn", 64), ("fast_cnn", 128))[: 1 if quick else None]:
        what = f"not used: torch.compile, relative to eager: {model}, batch {size}, steps only"
        yield what, compare_compiled(model, size)
    for model, size in (("mlp_4x64", 15), ("mlp_4x64", 64), ("mlp_128_64", 64), ("mlp_500", 100)):
        what = f"one thread, relative to all threads: {model}, batch {size}, in a run"
        yield what, compare_one_thread(model, size)
    yield "freed memory is kept, relative to default malloc: mlp_500, batch 100, in a run", compare_kept_memory()
    yield "denormals become 0, relative to torch's default: cnn, batch 64, in a run", compare_flushed_denormals()
    what = "not used: no normalization, relative to normalization: mlp_4x64, batch 64, steps only"
    yield what, compare_no_normalization()


def time_run(*overrides: str) -> float:
    """Return the training seconds of a run of one epoch."""
    return compute_train_seconds(run_training(*DEFAULTS, "callbacks=none", "trainer.max_epochs=1", *overrides))


def time_network(
    model: str,
    batch_size: int,
    prepare_update: PrepareUpdate = fast_update,
    change: Callable[[nn.Module], nn.Module] = lambda network: network,
    fuse: bool = True,
    prepare: Callable[[Tensor], Tensor] = lambda images: images,
) -> float:
    """Return the seconds for `STEPS` optimizer steps on one batch, after 10 warm-up steps."""
    config = compose_config(*DEFAULTS, f"model={model}", f"data.batch_size={batch_size}")
    data = build_data(config)
    network = change(build_model(config, data.steps_per_epoch).network)
    optimizer = torch.optim.Adam(network.parameters(), fused=fuse)
    batch = data.splits.train[torch.arange(batch_size)]
    images = data.normalize(batch.images)

    def train(steps: int) -> float:
        return time_steps(
            lambda images: network(prepare(images)), optimizer, images, batch.labels, steps, prepare_update
        )

    train(10)
    return train(STEPS)


def compare_blocks() -> Pair:
    ours = ["model=mlp_4x64", "data.batch_size=64"]
    return partial(time_run, *ours), partial(time_run, *ours, "trainer.steps_per_execution=1")


def compare_prepared_arguments() -> Pair:
    ours = partial(time_network, "mlp_4x64", 15)
    return ours, partial(ours, lambda optimizer: optimizer.step)


def compare_fused_adam() -> Pair:
    torch_step = partial(time_network, "mlp_500", 100, lambda optimizer: optimizer.step)
    return torch_step, partial(torch_step, fuse=False)


def compare_batch_preparation() -> Pair:
    ours = ["model=mlp_4x64", "data.batch_size=15"]

    def prepare_one_by_one() -> float:
        with patch.object(loader, "PREPARED_AT_ONCE", 1):
            return time_run(*ours)

    return partial(time_run, *ours), prepare_one_by_one


def compare_pooling() -> Pair:
    def put_relu_first(network: nn.Module) -> nn.Module:
        layers = list(network.children())
        return nn.Sequential(layers[0], layers[2], layers[1], *layers[3:])

    return partial(time_network, "cnn", 64), partial(time_network, "cnn", 64, change=put_relu_first)


def compare_channels_last() -> Pair:
    def make_contiguous(network: nn.Module) -> nn.Module:
        return network.to(memory_format=torch.contiguous_format)

    return partial(time_network, "cnn", 64), partial(time_network, "cnn", 64, change=make_contiguous)


def compare_compiled(model: str, batch_size: int) -> Pair:
    """Exclude the time of the compilation itself, which takes seconds."""

    def compile_network(network: nn.Module) -> nn.Module:
        torch.compiler.reset()
        network.compile()
        return network

    return partial(time_network, model, batch_size, change=compile_network), partial(time_network, model, batch_size)


def compare_one_thread(model: str, batch_size: int) -> Pair:
    """Runs use one thread only for the smallest networks: see `useful_threads`."""

    def time_with(threads: int) -> float:
        with patch.object(training_run, "useful_threads", lambda model, batch_size: threads):
            return time_run(f"model={model}", f"data.batch_size={batch_size}")

    return partial(time_with, 1), partial(time_with, torch.get_num_threads())


def compare_kept_memory() -> Pair:
    """Use new processes, because a process cannot reset malloc."""
    ours = [*DEFAULTS, "callbacks=none", "trainer.max_epochs=1", "model=mlp_500", "data.batch_size=100"]

    def time_process(**variables: str) -> float:
        with env_override(variables):
            return run_train_py(*ours)[1]

    # 8 is the glibc default. If the variable is set, train.py does not change malloc.
    return time_process, partial(time_process, MALLOC_ARENA_TEST="8")


def compare_flushed_denormals() -> Pair:
    """Use new processes, because torch's threads keep the setting that they have started with."""
    ours = [*DEFAULTS, "callbacks=none", "trainer.max_epochs=2", "model=cnn", "data.batch_size=64"]
    program = ["-c", KEEP_DENORMALS]
    return lambda: run_train_py(*ours)[1], lambda: run_train_py(*ours, program=program)[1]


def compare_no_normalization() -> Pair:
    """Measure the maximum gain if the first layer includes the normalization."""
    normalize = loader.Normalize(0.1307, 0.3081)

    def prepare(images: Tensor) -> Tensor:
        return normalize(images.clone())  # it changes float images in place

    return partial(time_network, "mlp_4x64", 64), partial(time_network, "mlp_4x64", 64, prepare=prepare)
