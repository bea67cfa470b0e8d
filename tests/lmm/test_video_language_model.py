import pytest
import torch

import ssmvid
from ssmvid.lmm import LanguageModel, MambaMia, MLPConnector, Pool, VideoLanguageModel, VisualTokenEncoder

BACKBONE = {"dim": 16, "depth": 1, "head_dim": 8, "state_size": 4, "num_frames": 4, "img_size": 16, "num_classes": 0}


def make(connector=None, dim=24):
    torch.manual_seed(0)
    backbone = ssmvid.create_model("multiscan_tiny", **BACKBONE, tubelet=(1, 8, 8), hybrid="M")
    connector = connector or MLPConnector(dim=16, llm_dim=24, reducer=Pool(stride=(2, 2, 2)))
    language_model = LanguageModel(vocab_size=20, dim=dim, depth=2, state_size=4, head_dim=8)
    return VideoLanguageModel(VisualTokenEncoder(backbone, connector), language_model).eval()


def test_the_clip_is_read_before_the_question():
    model = make()
    frames, questions = torch.randn(2, 3, 4, 16, 16), torch.tensor([[3, 9], [1, 1]])
    soft = model.encoder(frames).tokens
    ids = torch.cat([torch.full((2, soft.shape[1]), 19), questions], dim=1)
    whole = model.language_model(model.language_model.splice(ids, soft, placeholder=19))
    torch.testing.assert_close(model(frames, questions), whole[:, -1])


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="soft tokens of width 24, a language model of width 32"):
        make(dim=32)
    with pytest.raises(ValueError, match="MambaMia gives clips of one size different numbers of soft tokens"):
        make(MambaMia(dim=16, llm_dim=24, frame=4, patches=2, state_size=4, head_dim=8))
