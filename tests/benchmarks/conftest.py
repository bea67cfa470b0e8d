"""The benchmarks are scripts: their folder is on the path while they run, so here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
