"""A checkpoint's file: a checksum protects its content, and reading it never runs code from the file."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from mnist_lit.build import constructor_defaults, import_class
from mnist_lit.errors import UserError
from mnist_lit.isolation import float32_on_cpu
from mnist_lit.models.classifier import DigitClassifier, class_path
from mnist_lit.run_folder import best_checkpoint, find_run, read_config, run_of_checkpoint

CHECKSUM = b"sha256:"
CHECKSUM_SIZE = len(CHECKSUM) + 64


def write_checkpoint(checkpoint: dict[str, Any], stream: IO[bytes]) -> None:
    """Write a file that ends with its own SHA-256. A zip archive may end with a comment; torch reads it as before.

    Raises:
        UserError: if a part of the checkpoint could not be read again.
    """
    archive = io.BytesIO()
    torch.save(to_plain(checkpoint), archive)
    archive.seek(0)
    if unreadable := torch.serialization.get_unsafe_globals_in_checkpoint(archive):
        raise UserError(
            f"the state of a class in the config holds {', '.join(unreadable)}, which a checkpoint cannot hold: "
            "tensors, numbers and text are possible"
        )
    body, no_comment = archive.getbuffer()[:-2], archive.getbuffer()[-2:]
    assert no_comment == b"\0\0"
    stream.write(body)
    stream.write(_comment(body))


def to_plain(value: Any) -> Any:
    """NumPy's numbers as Python's. A schedule that computes with NumPy makes them."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is dict:
        return {to_plain(key): to_plain(part) for key, part in value.items()}
    return type(value)(map(to_plain, value)) if type(value) in (list, tuple) else value


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint on the CPU: tensors and plain values only. Nothing in the file is executed.

    Raises:
        UserError: if the file is missing or damaged, or holds anything but tensors and plain values.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such checkpoint") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if _is_damaged(content):
        raise UserError(f"{path}: is damaged (its checksum is wrong)")
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # an unknown file can raise anything here
        reason = (str(error) or type(error).__name__).splitlines()[0].partition(" In PyTorch 2.6")[0]  # torch's advice
        raise UserError(f"{path}: not a checkpoint that can be read ({reason})") from error
    expected = {"network": str, "state_dict": dict, "hyper_parameters": dict}
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(k), kind) for k, kind in expected.items()):
        raise UserError(f"{path}: not a checkpoint of this project (it names no network)")
    return checkpoint


def load_classifier(path: str | Path) -> DigitClassifier:
    """The network of a checkpoint, from the file alone: on the CPU, in eval mode.

    Raises:
        UserError: if the file is no checkpoint, if its network cannot be imported here, or if the two do not fit.
    """
    checkpoint = read_checkpoint(path)
    options = checkpoint["hyper_parameters"]
    network = import_class(checkpoint["network"], "model", options)
    try:
        with float32_on_cpu():
            model = network(**options)
        model.load_state_dict(network_weights(checkpoint["state_dict"]))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: does not fit {checkpoint['network']}: {error}") from error
    return model.eval()


def read_initial_weights(run: Path, model: DigitClassifier, classes: Sequence[str]) -> dict[str, Any]:
    """The weights of a run's best checkpoint, or of a checkpoint file, for another run to begin with.

    Raises:
        UserError: if there is no such checkpoint, or if its network or its classes are not those of this run.
    """
    run = find_run(str(run))
    if not run.exists():
        raise UserError(f"init_from={run}: there is no such run or checkpoint")
    path = best_checkpoint(run)
    checkpoint = read_checkpoint(path)
    if not holds_network_of(checkpoint, model):
        theirs, ours = (checkpoint["network"], checkpoint["hyper_parameters"]), (class_path(model), dict(model.hparams))
        their, our = (
            f"{name}({', '.join(f'{k}={v}' for k, v in options.items())})" for name, options in (theirs, ours)
        )
        raise UserError(f"init_from={run}: holds another network: {their}. This run has {our}")
    folder = run_of_checkpoint(path)
    if folder and (trained := read_config(folder).data.classes) != list(classes):
        raise UserError(
            f"init_from={run}: has other classes. It has {', '.join(trained)}; this run has {', '.join(classes)}"
        )
    weights = network_weights(checkpoint["state_dict"])
    shapes, expected = _shapes(weights), _shapes(network_weights(model.state_dict()))
    if different := [name for name in {**expected, **shapes} if shapes.get(name) != expected.get(name)]:
        name = different[0]
        raise UserError(
            f"init_from={run}: its weights do not fit this network: {name} is {shapes.get(name, 'missing')} there and "
            f"{expected.get(name, 'missing')} here"
        )
    return weights


def holds_network_of(checkpoint: Mapping[str, Any], model: DigitClassifier) -> bool:
    """Whether the checkpoint's network has the class and the options of `model`. If the checkpoint lacks
    an option, it is older than the option and counts as having the default."""
    defaults = {name: it for name, it in constructor_defaults(type(model)).items() if name in model.hparams}
    theirs = checkpoint["network"], defaults | checkpoint["hyper_parameters"]
    return theirs == (class_path(model), dict(model.hparams))


def _shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in weights.items()}


def network_weights(state_dict: dict[str, Any]) -> dict[str, Any]:
    """The state without the tensors of the loss, which only training and evaluation need."""
    return {name: value for name, value in state_dict.items() if not name.startswith(("loss.", "evaluation_loss."))}


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 of all weights: equal digests mean that the networks are equal bit for bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _comment(body: memoryview) -> bytes:
    """The end of a zip archive: the length of the comment, then the comment, which is the SHA-256 of the rest."""
    return CHECKSUM_SIZE.to_bytes(2, "little") + CHECKSUM + hashlib.sha256(body).hexdigest().encode()


def _is_damaged(content: bytes) -> bool:
    """Whether the file ends with the SHA-256 of other content. A file without a checksum passes: another program wrote
    it."""
    has_checksum = content[-CHECKSUM_SIZE:].startswith(CHECKSUM)
    return has_checksum and content[-CHECKSUM_SIZE - 2 :] != _comment(memoryview(content)[: -CHECKSUM_SIZE - 2])
