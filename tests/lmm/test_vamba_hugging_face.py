"""Vamba around Hugging Face's decoders: grouped heads, biases, rotary positions, their cache and their generate."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from ssmvid.lmm import Vamba

SIZES = {
    "vocab_size": 30,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TOKENS = {"bos_token_id": 0, "eos_token_id": 29, "pad_token_id": 29}
MODELS = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
EACH = pytest.mark.parametrize("name", MODELS)


def language_model(name):
    torch.manual_seed(0)
    config, kind = MODELS[name]
    model = kind(config(**SIZES, **TOKENS)).eval()
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):
            nn.init.normal_(parameter)
    return model


def make(name, alpha=0.3):
    vamba = Vamba(language_model(name), state_size=4, head_dim=8).eval()
    for attention in vamba.attentions:
        nn.init.constant_(attention.alpha, alpha)
    return vamba


def ids():
    return torch.randint(1, 29, (2, 6), generator=torch.Generator().manual_seed(1))


def video():
    return torch.randn(2, 11, 16, generator=torch.Generator().manual_seed(2))


@EACH
@torch.no_grad()
def test_with_alpha_1_it_is_the_language_model_alone(name):
    assert torch.equal(make(name, alpha=1)(video(), ids()).logits, language_model(name)(ids()).logits)


@EACH
@torch.no_grad()
def test_without_rotation_cross_attention_starts_as_the_self_attention(name):
    tokens, unturned = video(), (torch.ones(1, 11, 4), torch.zeros(1, 11, 4))
    for attention in make(name).attentions:
        own = attention.self_attn(tokens, position_embeddings=unturned, attention_mask=torch.zeros(1, 1, 11, 11))[0]
        cross = attention.cross_attn
        torch.testing.assert_close(cross(tokens, *cross.keys_values(tokens), None), own)


@EACH
def test_parameters(name):
    alone, vamba = language_model(name), make(name)
    own = sum(p.numel() for p in alone.model.layers[0].self_attn.parameters())
    layer = sum(p.numel() for p in vamba.layers[0].parameters())
    assert layer == 16 * (64 + 8 + 4) + 5 * (32 + 8) + 3 * 4 + 32 + 32 * 16 + 16
    count = lambda model: sum(p.numel() for p in model.parameters())
    assert count(vamba) == count(alone) + 3 * (own + 1) + 2 * layer


@EACH
@torch.no_grad()
def test_generation_with_a_cache_sees_the_video(name):
    vamba, text = make(name), ids()
    with vamba.watching(vamba.read(video())):
        new = vamba.language_model.generate(text, max_new_tokens=5, do_sample=False)
    expected = text
    while expected.shape[1] < new.shape[1]:
        word = vamba(video(), expected).logits[:, -1].argmax(-1)
        word = word.masked_fill((expected[:, 6:] == 29).any(1), 29)
        expected = torch.cat([expected, word[:, None]], dim=1)
    assert torch.equal(new, expected)
    with vamba.watching(vamba.read(-video())):
        other = vamba.language_model(text).logits
    assert not torch.allclose(other, vamba(video(), text).logits)


@EACH
def test_every_parameter_gets_a_gradient_under_checkpointing(name):
    vamba = make(name).train()
    newer = hasattr(vamba.language_model, "activation_checkpointing_enable")  # the older name then warns
    getattr(vamba.language_model, f"{'activation' if newer else 'gradient'}_checkpointing_enable")()
    with vamba.watching(vamba.read(video())):
        vamba.language_model(ids(), labels=ids(), use_cache=False).loss.backward()
    assert [key for key, p in vamba.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_beside_a_frozen_language_model_all_that_is_new_is_trained():
    vamba = Vamba(language_model("qwen2").requires_grad_(False), state_size=4, head_dim=8)
    trained = {key for key, p in vamba.named_parameters() if p.requires_grad}
    assert trained == {key for key, _ in vamba.named_parameters() if "cross_attn" in key or "alpha" in key} | {
        f"layers.{key}" for key, _ in vamba.layers.named_parameters()
    }


def test_an_attention_with_more_than_four_projections_is_refused():
    model = Qwen3ForCausalLM(Qwen3Config(**SIZES, **TOKENS, head_dim=4))
    with pytest.raises(TypeError, match=r"Qwen3Attention must have head_dim and q_proj, .* got k_norm, .* q_norm"):
        Vamba(model)


def test_the_published_size():
    """On Qwen2-VL-7B's decoder 0.82 billion parameters of cross-attention, and the paper's 3 billion in all."""
    config = Qwen2Config(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
    )
    with torch.device("meta"):
        vamba = Vamba(Qwen2ForCausalLM(config))
    count = lambda modules: sum(p.numel() for module in modules for p in module.parameters())
    cross = count(attention.cross_attn for attention in vamba.attentions)
    assert round(cross / 1e9, 2) == 0.82
    assert round((cross + count(vamba.layers)) / 1e9) == 3
