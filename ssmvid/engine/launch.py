"""How a run starts under Hydra: one folder for all ranks, one message for a refusal."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from hydra.errors import CompactHydraException

from ssmvid.engine.checkpoint import CheckpointError
from ssmvid.engine.step import NonFiniteLoss
from ssmvid_kernels import BackendError


def quiet_other_ranks() -> None:
    """Keep Hydra from giving each rank that torchrun started a folder, a config and a log file of its own.

    Rank 0's folder is the run's; the others learn of it from rank 0. Call it before `hydra.main` reads its arguments.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        sys.argv += [
            "hydra.output_subdir=null",
            "hydra/job_logging=none",
            f"hydra.run.dir={tempfile.gettempdir()}",
            f"hydra.sweep.dir={tempfile.gettempdir()}",
        ]


@contextlib.contextmanager
def plain_refusals() -> Iterator[None]:
    """Let Hydra show what a user can mend as its message alone; HYDRA_FULL_ERROR=1 shows where it came from."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError, BackendError, CheckpointError, NonFiniteLoss) as error:
        raise CompactHydraException(str(error)) from error
