"""examples/lmm_video.py runs, on a real video."""

import importlib.util
from pathlib import Path

import pytest
import torch

from tests.videos import write_video

PATH = Path(__file__).parents[3] / "examples" / "lmm_video.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("lmm_video", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_lmms_read_a_video_and_come_back(script, tmp_path, capsys):
    video = write_video(tmp_path / "numbered.mp4", 30, size=(96, 64))
    said = script.main([str(video), "--out", str(tmp_path / "models")])
    assert capsys.readouterr().out.endswith("the same again in a new process\n")
    assert said.keys() == script.LMMS.keys()
    assert all(len(text.split()) == 12 for text in said.values())
    again = script.main([str(video), "--load", *(str(tmp_path / "models" / name) for name in said)])
    assert again == said


def test_another_video_gets_another_answer(script, tmp_path):
    """The encoder is as it is made in the example, so that this is not by luck of a tiny LMM's weights."""
    torch.manual_seed(0)
    encoder = script.make_encoder(64)
    with torch.no_grad():
        tokens = [encoder(torch.randn(1, 8, 3, 64, 64)).last_hidden_state for _ in range(2)]
    assert (tokens[0] - tokens[1]).abs().max() > 1e-3
