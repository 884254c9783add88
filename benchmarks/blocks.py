"""What `trainer.steps_per_execution=auto` promises: an update at least every 0.2 s."""

import statistics

from benchmarks.product import DEFAULTS, config_of, run
from benchmarks.rounds import Row
from mnist_lit.training.build import auto_steps_per_execution, build_model

CASES = (("mlp_4x64", 15), ("mlp_4x64", 64), ("mlp_500", 100), ("mlp_500", 4096), ("cnn", 64), ("cnn", 1024),
         ("fast_cnn", 128), ("convnet", 128))  # fmt: skip


def blocks(rounds: int, quick: bool) -> list[Row]:
    rows = []
    for name, batch_size in CASES[: 1 if quick else None]:
        overrides = [*DEFAULTS, f"model={name}", f"data.batch_size={batch_size}", "trainer.max_epochs=1"]
        small = [*overrides, "data.val_size=40000", "callbacks=none"]
        steps = auto_steps_per_execution(build_model(config_of(*overrides), 1), batch_size)
        seconds = [steps * batch_size / run(*small)["train_samples_per_second"] for _ in range(rounds)]
        rows.append(
            Row(
                f"`steps_per_execution=auto`: {name}, batch {batch_size}: {steps} steps, an update every",
                statistics.median(seconds),
                0.2,
                at_most=True,
                unit="s",
                detail=f"{min(seconds):.3f} to {max(seconds):.3f} s",
                reason="a single step takes that long"
                if steps == 1
                else "computed from the network's size, for two cores that are not busy with other things",
            )
        )
    return rows
