"""What was measured, part by part: kept in results.json, shown in results.md. Measuring one again keeps the rest."""

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu
from benchmarks.rounds import Row
from mnist_lit.training.devices import device_name

HEADER = ["what", "goal", "measured", "", "rounds, medians, and the reason where a goal is not met"]
NOTES = """\
# Speed

Written by `python -m benchmarks`. Opponents take turns within a round; a ratio is the median of the rounds' ratios.
Seconds are of one machine at one hour, and worth nothing elsewhere; a load average far above the number of threads
means that other work was running beside. It is a virtual machine with minutes in which two threads are no faster than
one, in everything but large matrix products; *articles* and *flops* suffer most, and are of the others.

- *run* is a whole run as `train.py` makes it (TensorBoard with the default dashboards, CSV, progress bar, checkpoints,
  validation), in this process; its time is `fit_seconds` of its result.json: from the start of training to the end of
  the last epoch, validations, checkpoints and histograms included. Start-up and the test are measured by `startup`.
- *bare* is a hand-written loop over normalised tensors in memory with the same network and fused optimiser. It
  validates after each epoch too, writes nothing, and indexes with `[]`. "Training alone" leaves out both validations.
- The *articles*' loops have a process of their own each time. They train on 60,000 images, a run on 55,000: the run's
  seconds are scaled by 60/55. Its validation and checkpoints count.
- *plain Lightning* and the run both train on 55,000 and validate on 5,000.
- *fast99* trains once over all 60,000 images, without validation; the run trains on 55,000, validates and saves.
"""


def save(folder: Path, part: str, rows: list[Row], rounds: int) -> None:
    """A GPU's part goes into files of its own, named by the card: results-h200.md, say."""
    device = torch.device("cuda" if part == "gpu" else "cpu")
    stem, notes = "results", NOTES
    if part == "gpu":
        card = torch.cuda.get_device_name(device).removeprefix("NVIDIA ")
        stem, notes = f"results-{card.lower().replace(' ', '-')}", gpu.NOTES
    path = folder / f"{stem}.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results[part] = {
        "date": str(datetime.now(UTC).date()),
        "device": device_name(device),
        "torch": torch.__version__,
        "load_average": round(os.getloadavg()[0], 1),
        "rounds": rounds,
        "rows": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (folder / f"{stem}.md").write_text(notes + "".join(section(name, result) for name, result in results.items()))


def section(name: str, result: dict[str, Any]) -> str:
    lines = [
        f"\n## {name}\n",
        f"`python -m benchmarks {name}`, {result['date']}: {result['device']}, torch {result['torch']}, "
        f"{result['rounds']} rounds, load average {result['load_average']} at the end.\n",
    ]
    cells = [HEADER, ["---"] * len(HEADER), *(Row(**row).cells() for row in result["rows"])]
    lines += [f"| {' | '.join(row)} |" for row in cells]
    if name == "scaling":
        lines.append("\n![cost against work](scaling.svg)")
    return "\n".join(lines) + "\n"
