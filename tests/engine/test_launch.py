import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import CompactHydraException

from ssmvid.engine import CheckpointError, plain_refusals
from ssmvid_kernels import BackendError

ROOT = Path(__file__).parents[2]
REFUSALS = [ValueError("got 3, expected 4"), CheckpointError("damaged"), BackendError("needs a GPU")]


@pytest.mark.parametrize("error", REFUSALS)
def test_what_a_user_can_mend_reaches_hydra_as_its_message(error):
    with pytest.raises(CompactHydraException, match=str(error)) as caught, plain_refusals():
        raise error
    assert caught.value.__cause__ is error


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(KeyError), plain_refusals():
        raise KeyError("of ours")


def test_a_refused_script_prints_one_message(tmp_path):
    done = subprocess.run(
        [sys.executable, "eval.py", f"checkpoint={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"{tmp_path} is neither a checkpoint" in done.stderr
    assert "Traceback" not in done.stderr
