"""`python -m benchmarks.shipped_network RUN --pictures FOLDER` writes the network that comes with the package.

RUN is a finished run of `experiment=robust` on the real MNIST. FOLDER holds labeled pictures that people made. The file
says how the network was trained, and how accurate it is on MNIST's test set and on the pictures.
"""

import argparse
import json
import tempfile
from pathlib import Path

import onnx

from benchmarks.own_pictures import list_labeled_pictures, read_all
from mnist_lit.digits.cli_commands import to_run
from mnist_lit.digits.export import export_run
from mnist_lit.digits.trained_network import SHIPPED, OnnxNetwork

LARGEST = 400_000  # bytes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shipped_network", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=to_run, help="a finished run of experiment=robust")
    parser.add_argument("--pictures", type=Path, required=True, help="a folder with labels.tsv")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / SHIPPED.name
        done = export_run(arguments.run, "onnx", exported)
        if done.bytes > LARGEST:
            parser.error(f"the network has {done.bytes:,} bytes; it may have {LARGEST:,}")
        counts = count_right(OnnxNetwork(exported), arguments.pictures)
        model = onnx.load(exported)
    known = {it.key: it.value for it in model.metadata_props}
    command = f"python train.py experiment=robust seed={known['seed']}"
    properties = known | {"pictures": json.dumps(counts), "command": json.dumps(command)}
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, SHIPPED)
    print(f"{SHIPPED}: {SHIPPED.stat().st_size:,} bytes, {done.accuracy[1]:.2%} of MNIST's test images, {counts}")


def count_right(network: OnnxNetwork, folder: Path) -> dict[str, str]:
    """`right / total` for pictures of one digit and for pictures of several."""
    pictures = list_labeled_pictures(folder)
    answers = zip(pictures, read_all(network, pictures), strict=True)
    right = [(picture.single, text == picture.digits) for picture, text in answers]
    return {
        name: f"{sum(it for kind, it in right if kind == single)} / {sum(kind == single for kind, _ in right)}"
        for name, single in (("single digits", True), ("several digits", False))
    }


if __name__ == "__main__":
    main()
