"""Hand-written training loops that a user would write or copy. They follow published descriptions of the techniques.

`python -m benchmarks.baselines OVERRIDE…` trains the bare loop in a process of its own, with the defaults of torch and
of the operating system, and prints its seconds as JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from mnist_lit.build import build_data, build_model
from mnist_lit.data.datasets import Splits
from mnist_lit.isolation import restoring_threads
from mnist_lit.private_apis import fast_update
from mnist_lit.training.devices import choose_precision, useful_threads
from tests.configs import compose_config

PrepareUpdate = Callable[[Optimizer], Callable[[], object]]  # for example fast_update


@dataclass(frozen=True)
class Times:
    """Seconds. `fit`: training and validation after each epoch. `train`: training only."""

    fit: float
    train: float


def train_bare(*overrides: str, epochs: int, bf16: bool = False) -> Times:
    """Train with normalized tensors in memory. Network, fused optimizer and batches are those of a run. Log nothing.

    Networks with convolutions use channels_last. With `bf16`, the forward pass uses autocast.
    """
    config = compose_config(*overrides)
    data = build_data(config)
    torch.manual_seed(config.seed)
    model = build_model(config, data.steps_per_epoch)
    network, optimizer = model.network, model.configure_optimizers()
    train_images, val_images = data.normalize(data.splits.train.images), data.normalize(data.splits.val.images)
    train_labels, val_labels = data.splits.train.labels, data.splits.val.labels
    started, training = time.perf_counter(), 0.0
    for _ in range(epochs):
        epoch_started = time.perf_counter()
        for index in torch.randperm(len(train_labels)).split(config.data.batch_size):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(network(train_images[index]), train_labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        training += time.perf_counter() - epoch_started
        with torch.no_grad():
            pairs = zip(val_images.split(1000), val_labels.split(1000), strict=True)
            sum(float((network(images).argmax(1) == labels).sum()) for images, labels in pairs)
    return Times(time.perf_counter() - started, training)


def time_steps_only(*overrides: str) -> float:
    """Return the seconds for the optimizer steps of one epoch, all on the same batch.

    The steps are those of a run, in its precision, with its loss and its number of threads, without schedule, data
    loading, validation and logging. So this is the minimum time for the same arithmetic on this machine.
    """
    config = compose_config(*overrides)
    data = build_data(config)
    model = build_model(config, data.steps_per_epoch)
    bf16 = choose_precision(config.trainer.precision, "cpu", model) == "bf16-mixed"
    model.scheduler = None
    optimizer = model.configure_optimizers()
    images = data.normalize(data.splits.train.images[: config.data.batch_size])
    labels = data.splits.train.labels[: config.data.batch_size]
    with restoring_threads():
        torch.set_num_threads(useful_threads(model, config.data.batch_size))
        times = [
            time_steps(model, optimizer, images, labels, steps, loss=model.loss, bf16=bf16)
            for steps in (1, data.steps_per_epoch - 1)
        ]
    return sum(times)


def find_precision(*overrides: str) -> str:
    """Return the precision of a run on this CPU. `auto` depends on the machine."""
    config = compose_config(*overrides)
    return choose_precision(config.trainer.precision, "cpu", build_model(config, steps_per_epoch=1))


def time_steps(
    network: Callable[[Tensor], Tensor],
    optimizer: Optimizer,
    images: Tensor,
    labels: Tensor,
    steps: int,
    prepare_update: PrepareUpdate = fast_update,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    bf16: bool = False,
) -> float:
    """Return the seconds for this number of optimizer steps on one batch."""
    update, started = prepare_update(optimizer), time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss(network(images), labels)
        value.backward()
        update()
    return time.perf_counter() - started


def train_fast99(splits: Splits, seed: int, channels_last: bool) -> float:
    """Run the published recipe that has 99.04 % after one epoch. Return the seconds.

    It uses batches of 256 in the order of the files, without validation. It trains on all 60,000 images: this function
    adds the validation images of this project to the training images.
    """
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(1, 24, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10),
    )  # fmt: skip
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    images = torch.cat((splits.train.images, splits.val.images)).float().div_(255).sub_(0.1307).div_(0.3081)
    labels = torch.cat((splits.train.labels, splits.val.labels))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, betas=(0.7, 0.9))
    schedule = OneCycleLR(optimizer, max_lr=0.01, total_steps=-(-len(labels) // 256), cycle_momentum=False)
    started = time.perf_counter()
    for batch, target in zip(images.split(256), labels.split(256), strict=True):
        optimizer.zero_grad()
        F.cross_entropy(network(batch), target).backward()
        optimizer.step()
        schedule.step()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.baselines", description=__doc__)
    parser.add_argument("overrides", nargs="+", help="of the config: model=mlp_500 data.batch_size=100")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    options = parser.parse_args()
    print(json.dumps(asdict(train_bare(*options.overrides, epochs=options.epochs, bf16=options.bf16))))


if __name__ == "__main__":
    main()
