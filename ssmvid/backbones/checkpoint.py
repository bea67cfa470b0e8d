"""Checkpoint files into backbones: unwrapped, position tables resized, and refused unless every key fits."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ssmvid.backbones.inflate import inflate
from ssmvid.backbones.remerge import remerge
from ssmvid.scan import Merge

if TYPE_CHECKING:
    from ssmvid.backbones.base import Backbone

# Where training scripts put the weights in a file, and what they put before a key.
WRAPPERS = ("model", "module", "state_dict")
PREFIXES = ("module.", "_orig_mod.", "backbone.", "encoder.", "vision_encoder.")
HEAD = "head."
PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".tar")


def load_checkpoint(
    model: Backbone,
    path: str | Path,
    *,
    new_head: bool = False,
    from_image: bool = False,
    merged: Merge | None = None,
) -> None:
    """Load a checkpoint file into a backbone; nothing is changed unless all of it fits.

    Position tables of another length are resized to the model's grid: spatial ones from a square, as a table does
    not say how many rows it has. Pickled code in a file is never run.

    Args:
        model: the backbone.
        path: a .safetensors file, or one of `torch.save` that ends in one of `PICKLED`; the weights may lie under
            'model', 'module' or 'state_dict', their keys may carry one of `PREFIXES`.
        new_head: leave the classifier as the model has it, whatever the file holds.
        from_image: the file holds an image model, `model` is a video model of its family: see `inflate`.
        merged: how the file's model merges its scan paths, 'sum' or 'mean', where `model` merges them otherwise and is
            to start with the same outputs: see `remerge`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read as weights, or does not fit; the message lists every missing,
            unexpected and mis-shaped key.
    """
    try:
        state = fit_state_dict(read_state_dict(path), model, new_head=new_head, from_image=from_image, merged=merged)
    except ValueError as error:
        raise ValueError(f"checkpoint {path}: {error}") from error
    model.load_state_dict(state, strict=not new_head)


def read_state_dict(path: str | Path) -> dict[str, Any]:
    """What a checkpoint file holds, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the suffix is unknown, or the file is broken or would have to run code to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix in PICKLED:
            return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"cannot be read as weights ({error})") from error
    raise ValueError(f"expected a .safetensors file or one of {', '.join(PICKLED)}, got {path.suffix!r}")


def fit_state_dict(
    state: Mapping[str, Any],
    model: Backbone,
    *,
    new_head: bool = False,
    from_image: bool = False,
    merged: Merge | None = None,
) -> dict[str, Tensor]:
    """A checkpoint's weights under the model's keys and in its shapes.

    Args:
        state: as read from a file: wrapped or flat, prefixed or not, under the released keys or the model's.
        model: the backbone it is for.
        new_head: drop the classifier.
        from_image: inflate an image model's weights.
        merged: rewrite those of a model that merges its paths so.

    Raises:
        ValueError: it does not fit; the message lists every missing, unexpected and mis-shaped key.
    """
    own = {key: value for key, value in model.state_dict().items() if not (new_head and key.startswith(HEAD))}
    whole = model.from_official(_unwrap(state))
    if from_image:
        whole = inflate(whole, model)
    if merged is not None:
        whole = remerge(whole, model, merged)
    weights = {key: value for key, value in whole.items() if not (new_head and key.startswith(HEAD))}
    for key, table in weights.items():
        if key in own and table.shape != own[key].shape and table.shape[-1] == own[key].shape[-1]:
            weights[key] = model.resize_table(key, table)
    misfits = [f"missing     {key} {tuple(own[key].shape)}" for key in own if key not in weights]
    misfits += [f"unexpected  {key} {tuple(weights[key].shape)}" for key in weights if key not in own]
    misfits += [
        f"shape       {key}: expected {tuple(own[key].shape)}, got {tuple(weights[key].shape)}"
        for key in own
        if key in weights and own[key].shape != weights[key].shape
    ]
    if misfits:
        raise ValueError(
            f"does not fit this {type(model).__name__}:\n  "
            + "\n  ".join(misfits)
            + "\nMake the model the checkpoint was saved from; new_head=True leaves the classifier as it is."
        )
    return weights


def _unwrap(state: Mapping[str, Any]) -> dict[str, Tensor]:
    inner = next((state[name] for name in WRAPPERS if isinstance(state.get(name), Mapping)), None)
    if inner is not None:
        return _unwrap(inner)
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"holds no state_dict, flat or under one of {WRAPPERS}, got keys {list(state)[:5]}")
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            return _unwrap({key.removeprefix(prefix): value for key, value in state.items()})
    return dict(state)
