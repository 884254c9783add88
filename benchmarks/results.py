"""Saves the results of each part in results.json and results.md. A new measurement of a part keeps the others."""

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu
from benchmarks.measurement import Row
from mnist_lit.training.devices import device_name

HEADER = ["measurement", "goal", "result", "", "rounds, medians; the reason if a goal is not met"]
NOTES = """\
# Speed

Written by `python -m benchmarks`. The programs take turns in each round. A ratio is the median of the ratios of all
rounds. The seconds are from one machine at one time. They are not valid for other machines. If the load average is much
higher than the number of threads, other programs ran at the same time. The machines are virtual. In some minutes, two
threads are not faster than one, except in large matrix multiplications. This affects *articles* most.

The parts are from several processors, and each part names its own. They differ most in bf16:

| processor | matrices in f32 | in bf16 | cnn, `trainer.precision=auto` |
| --- | --- | --- | --- |
| AMD EPYC of *fit*, *articles* | 172 GFLOP/s | 411 GFLOP/s | bf16-mixed, 0.73 times the time of *bare* |
| another AMD EPYC, of *lightning* | 206 GFLOP/s | 863 GFLOP/s | bf16-mixed, 0.61 times |
| Intel Xeon with AVX-512 BF16, without AMX: *flops* | 328 GFLOP/s | 166 GFLOP/s | 32-true: slower with bf16 numbers |
| Intel Xeon with AMX: *speedrun*, *beside*, *report*, `intel` | 370 GFLOP/s | 2,459 GFLOP/s | bf16-mixed, 0.87 times |

- *run* is a whole run of `train.py` (TensorBoard with the default dashboards, CSV, progress bar, checkpoints,
  validation) in this process. Its time is `fit_seconds` in result.json: from the start of training to the end of the
  last epoch, with validation, checkpoints and histograms. `startup` measures the start-up and the test.
- *bare* is a hand-written loop with normalized tensors in memory, the same network and the same fused optimizer. It
  also validates after each epoch. It writes no files and indexes with `[]`. "Training time" excludes validation for
  both. It has the settings of a run: freed memory is kept, and denormals become 0. *bare alone* is the same loop in a
  process of its own, with the defaults of torch and of malloc, as a user's loop has. *bare bf16* uses autocast to
  bfloat16, as the run does with `trainer.precision=auto`.
- *steps alone* are the optimizer steps of the run on one batch, without data, validation and files. No program with the
  same arithmetic can be faster.
- The loops of the *articles* run in a new process each time. They train on 60,000 images. A run trains on 55,000, so
  its seconds are multiplied by 60/55. They include validation and checkpoints.
- *plain Lightning* and the run both train on 55,000 images and validate on 5,000.
- *fast99* trains once on all 60,000 images, without validation. The run trains on 55,000, validates and saves
  checkpoints.
"""


def save_results(folder: Path, part: str, rows: list[Row], rounds: int) -> None:
    """Save one part. The GPU part has its own files, named after the card, for example results-h200.md."""
    device = torch.device("cuda" if part == "gpu" else "cpu")
    stem, notes = "results", NOTES
    if part == "gpu":
        card = torch.cuda.get_device_name(device).removeprefix("NVIDIA ")
        stem, notes = f"results-{card.lower().replace(' ', '-')}", gpu.NOTES
    path = folder / f"{stem}.json"
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    results[part] = {
        "date": str(datetime.now(UTC).date()),
        "device": device_name(device),
        "torch": torch.__version__,
        "load_average": round(os.getloadavg()[0], 1),
        "rounds": rounds,
        "rows": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / f"{stem}.md").write_text(
        notes + "".join(format_section(name, result) for name, result in results.items()), encoding="utf-8"
    )


def format_section(name: str, result: dict[str, Any]) -> str:
    lines = [
        f"\n## {name}\n",
        f"`python -m benchmarks {name}`, {result['date']}: {result['device']}, torch {result['torch']}, "
        f"{result['rounds']} rounds, load average {result['load_average']} at the end.\n",
    ]
    cells = [HEADER, ["---"] * len(HEADER), *(Row(**row).format_cells() for row in result["rows"])]
    lines += [f"| {' | '.join(row)} |" for row in cells]
    if name == "scaling":
        lines.append("\n![time against the amount of work](scaling.svg)")
    return "\n".join(lines) + "\n"
