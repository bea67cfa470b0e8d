"""transformers is needed by ssmvid.lmm.hf alone, which says how to get it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
WITHOUT = """
import sys
sys.path.insert(0, "kernels")
sys.modules["transformers"] = None
import ssmvid.lmm
try:
    import ssmvid.lmm.hf
except ImportError as error:
    print(error)
"""


def test_without_transformers():
    """From the repository's root, whose folder `kernels` is in the way of no package of that name."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "ssmvid.lmm.hf needs transformers: pip install 'ssmvid[hf]'\n", done.stderr
