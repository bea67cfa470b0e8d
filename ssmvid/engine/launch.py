"""One run folder for all ranks."""

from __future__ import annotations

import os
import sys
import tempfile


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
