"""Our language model and Hugging Face's Mamba2 of the same weights."""

import torch
from transformers import Mamba2Config, Mamba2ForCausalLM

from tests.lmm.test_language_model import DIM, WORDS, ids, make


@torch.no_grad()
def test_logits_are_those_of_hugging_faces_mamba2():
    model = make()
    sizes = {"num_heads": 4, "head_dim": 8, "state_size": 4, "n_groups": 1, "expand": 2, "chunk_size": 8}
    config = Mamba2Config(hidden_size=DIM, vocab_size=32, num_hidden_layers=4, tie_word_embeddings=True, **sizes)
    peer = Mamba2ForCausalLM(config).eval()
    weights = {key.replace("backbone.embedding.", "backbone.embeddings."): t for key, t in model.state_dict().items()}
    peer.load_state_dict(weights)
    torch.testing.assert_close(model(ids()), peer(ids()).logits, atol=1e-4, rtol=1e-4)
    assert model(ids())[..., :WORDS].std() > 0.01
