"""A model and its data set back from a checkpoint, whose config is data: names that are looked up, never run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ssmvid import lmm, tasks
from ssmvid.data import ClipDataset, MovingDigits, Needles, VideoFolder
from ssmvid.engine import checkpoint
from ssmvid.engine.checkpoint import CheckpointError
from ssmvid.engine.state import Progress, check_fit
from ssmvid.engine.summary import read_summary
from ssmvid.from_config import from_config
from ssmvid.registry import create_model

# By name and not by attribute: what else ssmvid.data offers, such as a function that writes files, is out of reach.
DATA_SETS: Mapping[str, Callable[..., ClipDataset]] = {
    f"ssmvid.data.{data_set.__name__}": data_set for data_set in (MovingDigits, Needles, VideoFolder)
}
# Tasks and what they are made of: modules, whose making touches nothing but memory.
TASKS: Mapping[str, Callable[..., nn.Module]] = {
    f"{package.__name__}.{name}": offered
    for package in (tasks, lmm)
    for name in package.__all__
    if isinstance(offered := getattr(package, name), type) and issubclass(offered, nn.Module)
}


@dataclass(frozen=True)
class Trained:
    """A trained model in its task: `weights` is "ema" where the run kept a moving average, else "model"."""

    task: nn.Module
    folder: Path
    step: int
    weights: str
    class_names: tuple[str, ...]
    config: Mapping[str, Any]


def find(path: Path) -> Path:
    """The checkpoint that `path` names: itself, or the best one of a run's folder.

    Raises:
        CheckpointError: there is none.
    """
    if (path / checkpoint.MANIFEST).exists():
        return path
    root = path / "checkpoints"
    found = checkpoint.complete(root)
    if not found:
        raise CheckpointError(
            f"{path} is neither a checkpoint (no {checkpoint.MANIFEST}) nor a run with one (no checkpoints/step_...)"
        )
    summary = read_summary(path)
    progress = Progress(**checkpoint.read_document(found[-1], "state")["progress"])
    best = summary["best/step"] if summary else progress.best_step
    return checkpoint.folder_of(root, best) if best is not None else found[-1]


def restore(path: Path) -> Trained:
    """The task of a checkpoint or of a run's best one, with its trained model, in evaluation mode.

    Raises:
        CheckpointError: it is missing or damaged, or its weights do not fit.
        ValueError, TypeError: its config names no known model or task, or an option that one does not have.
    """
    folder = find(path)
    saved = checkpoint.read(folder)
    config, class_names = saved.documents["config"], tuple(saved.documents["class_names"])
    options = {name: value for name, value in config["model"].items() if not name.startswith("_")}
    name = options.pop("name")
    model = create_model(name, **options | {"pretrained": False, "num_classes": len(class_names)})
    # What its backward keeps is of no use here.
    task = from_config({name: value for name, value in config["task"].items() if name != "memory"}, TASKS, model=model)
    weights = "ema" if "ema" in saved.tensors else "model"
    check_fit(saved.tensors[weights], task.model.state_dict(), str(folder))
    task.model.load_state_dict(saved.tensors[weights])
    return Trained(task.eval(), folder, checkpoint.step_of(folder), weights, class_names, config)


def build_data(config: Mapping[str, Any]) -> ClipDataset:
    """The data set that a config describes.

    Raises:
        ValueError: `_target_` names none.
    """
    return from_config(config, DATA_SETS)
