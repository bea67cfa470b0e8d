"""How a task is trained. The engine knows no model class."""

from ssmvid.engine.checkpoint import CheckpointError
from ssmvid.engine.devices import seed_everything
from ssmvid.engine.launch import plain_refusals, quiet_other_ranks
from ssmvid.engine.log import TensorBoardLog, WandbLog
from ssmvid.engine.optim import Optim, Schedule
from ssmvid.engine.resume import ResumeError
from ssmvid.engine.step import NonFiniteLoss
from ssmvid.engine.trainer import Trainer

__all__ = [
    "CheckpointError",
    "NonFiniteLoss",
    "Optim",
    "ResumeError",
    "Schedule",
    "TensorBoardLog",
    "Trainer",
    "WandbLog",
    "plain_refusals",
    "quiet_other_ranks",
    "seed_everything",
]
