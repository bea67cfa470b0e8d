"""Vamba: with alpha 1 the language model alone; attention to a video by the self-attention's weights; parameters."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ssmvid.lmm import LanguageModel, Vamba
from ssmvid.lmm.vamba import CrossAttention
from ssmvid.mixers import Attention
from ssmvid.scan import Grid
from tests.lmm.connectors import lively

DIM, HEAD, STATES, WORDS = 16, 8, 4, 20
HYBRIDS = {"WF": 4, "MW": 4, "AF": None}
EACH = pytest.mark.parametrize("hybrid", HYBRIDS)
STREAMING = pytest.mark.parametrize("hybrid", ["WF", "MW"])


def language_model(hybrid="WF"):
    torch.manual_seed(0)
    options = {"hybrid": hybrid, "window": HYBRIDS.get(hybrid), "state_size": STATES, "head_dim": HEAD}
    return lively(LanguageModel(vocab_size=WORDS, dim=DIM, depth=6, **options))


def make(hybrid="WF", alpha=0.3):
    vamba = Vamba(language_model(hybrid), state_size=STATES, head_dim=HEAD)
    lively(vamba.layers)
    for attention in vamba.attentions:
        nn.init.constant_(attention.alpha, alpha)
    return vamba


def ids(length=9):
    return torch.randint(0, WORDS, (2, length), generator=torch.Generator().manual_seed(1))


def grid(length):
    return Grid(length, 1, 1)


def video(length=11):
    return torch.randn(2, length, DIM, generator=torch.Generator().manual_seed(2))


@EACH
@torch.no_grad()
def test_with_alpha_1_it_is_the_language_model_alone(hybrid):
    assert torch.equal(make(hybrid, alpha=1)(video(), ids()), language_model(hybrid)(ids()))


@torch.no_grad()
def test_it_starts_half_and_half():
    assert [attention.alpha.item() for attention in Vamba(language_model(), head_dim=HEAD).attentions] == [0.5] * 3


@EACH
@torch.no_grad()
def test_cross_attention_starts_as_the_self_attention(hybrid):
    """Of one and the same sequence, and without a mask, both give the same."""
    vamba = make(hybrid)
    for attention in vamba.attentions:
        own, tokens = attention.self_attn, video()
        q, k, v = (t.unflatten(-1, (-1, HEAD)).transpose(1, 2) for t in own.in_proj(tokens).chunk(3, dim=-1))
        expected = own.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        cross = attention.cross_attn
        torch.testing.assert_close(cross(tokens, *cross.keys_values(tokens), None), expected)
        assert cross.q_proj.weight.data_ptr() != own.in_proj.weight.data_ptr()


@torch.no_grad()
def test_a_layer_is_its_equations():
    vamba, text, v = make(), ids(), video()
    x = vamba.language_model.backbone.embedding(text)
    for i, attention in enumerate(vamba.attentions):
        block, mlp = (vamba.language_model.backbone.layers[2 * i + j] for j in (0, 1))
        normed = block.norm(x)
        own = attention.self_attn(normed, grid(x.shape[1]))
        cross = attention.cross_attn(normed, *attention.cross_attn.keys_values(v), None)
        x = x + 0.3 * own + 0.7 * cross
        x = x + mlp.mixer(mlp.norm(x), grid(x.shape[1]))
        if i < len(vamba.layers):
            v = v + vamba.layers[i].mixer(vamba.layers[i].norm(v), grid(v.shape[1]))
    expected = vamba.language_model.lm_head(vamba.language_model.backbone.norm_f(x))
    torch.testing.assert_close(vamba(video(), text), expected, atol=1e-5, rtol=1e-5)


@EACH
def test_parameters(hybrid):
    alone, vamba = language_model(hybrid), make(hybrid)
    heads, inner, layers = 2 * DIM // HEAD, 2 * DIM, 3
    mamba2 = DIM * (2 * inner + 2 * STATES + heads) + 5 * (inner + 2 * STATES) + 3 * heads + inner + inner * DIM
    extra = layers * (4 * DIM * DIM + 1) + (layers - 1) * (mamba2 + DIM)
    count = lambda model: sum(p.numel() for p in model.parameters())
    assert count(vamba) == count(alone) + extra


@EACH
@torch.no_grad()
def test_every_word_sees_the_whole_video_and_no_later_word(hybrid):
    vamba, text, clip = make(hybrid).double(), ids(), video().double()
    logits = vamba(clip, text)
    for place in (0, -1):
        other = clip.clone()
        other[:, place] += 1
        assert ((vamba(other, text) - logits).abs().amax(-1) > 0).all()
    later = text.clone()
    later[:, 5] = (later[:, 5] + 1) % WORDS
    changed = (vamba(clip, later) != logits).any(-1)
    assert not changed[:, :5].any()
    assert changed[:, 5:].any(1).all()


@torch.no_grad()
def test_a_later_video_token_changes_no_earlier_key():
    vamba, clip = make(), video()
    other = clip.clone()
    other[:, 6] += 1
    for a, b in zip(vamba.read(clip).keys, vamba.read(other).keys):
        assert torch.equal(a[:, :, :6], b[:, :, :6])
        assert not torch.equal(a[:, :, 6:], b[:, :, 6:])


@EACH
@pytest.mark.parametrize("sizes", [[1] * 11, [4, 0, 7]])
@torch.no_grad()
def test_a_video_in_parts_is_the_video(hybrid, sizes):
    vamba = make(hybrid)
    whole, watched = vamba.read(video()), vamba.init_state(2)
    size = [tuple(t.shape for t in state) for state in watched.states]
    for part in video().split(sizes, dim=1):
        watched = vamba.step(part, watched)
    assert [tuple(t.shape for t in state) for state in watched.states] == size
    torch.testing.assert_close(watched.keys + watched.values, whole.keys + whole.values, atol=1e-5, rtol=1e-5)
    assert torch.equal(watched.mask, whole.mask)


@torch.no_grad()
def test_what_a_mask_leaves_out_is_not_seen():
    vamba, clip = make(), video()
    mask = torch.ones(2, 11, dtype=torch.bool)
    mask[1, 7:] = False
    padded = vamba(clip, ids(), mask=mask)
    torch.testing.assert_close(padded[:1], vamba(clip[:1], ids()[:1]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(padded[1:], vamba(clip[1:, :7], ids()[1:]), atol=1e-5, rtol=1e-5)


@STREAMING
@torch.no_grad()
def test_words_one_by_one_and_generation_see_the_same_video(hybrid):
    vamba, text = make(hybrid), ids(length=4)
    model = vamba.language_model
    with vamba.watching(vamba.read(video())):
        state, parts = model.init_state(2), []
        for i in range(4):
            logits, state = model.step(text[:, i : i + 1], state)
            parts.append(logits)
        new = model.generate(text, max_new_tokens=5)
    torch.testing.assert_close(torch.cat(parts, 1), vamba(video(), text), atol=1e-4, rtol=1e-4)
    for _ in range(5):
        text = torch.cat([text, vamba(video(), text)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(new, text[:, 4:])


@EACH
def test_every_parameter_and_the_video_get_a_gradient(hybrid):
    vamba, clip = make(hybrid), video().requires_grad_()
    logits = vamba(clip, ids())
    (logits * torch.randn_like(logits)).sum().backward()
    assert clip.grad.abs().sum() > 0
    assert [key for key, p in vamba.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@torch.no_grad()
def test_alpha_is_kept_between_0_and_1():
    vamba = make()
    for value, kept in ((1.5, 1.0), (-0.5, 0.0)):
        nn.init.constant_(vamba.attentions[1].alpha, value)
        vamba(video(), ids())
        assert vamba.attentions[1].alpha.item() == kept


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@torch.no_grad()
def test_any_dtype(dtype):
    logits = make().to(dtype)(video().to(dtype), ids())
    assert logits.dtype == dtype
    assert logits.isfinite().all()
    model = language_model().to(dtype)
    assert {p.dtype for p in Vamba(model, head_dim=HEAD).parameters()} == {dtype}


def test_a_saved_model_is_loaded():
    vamba, other = make(), make()
    torch.nn.init.normal_(vamba.layers[0].mixer.in_proj.weight)
    other.load_state_dict(copy.deepcopy(vamba.state_dict()))
    assert torch.equal(other(video(), ids()), vamba(video(), ids()))


def test_what_cannot_be_done_says_so():
    with pytest.raises(ValueError, match=r"no attention layer with q_proj, .* and no letter A or W"):
        Vamba(language_model("MF"))
    vamba = make()
    with pytest.raises(RuntimeError, match=r"no video is watched: call the language model inside `with vamba.watching"):
        vamba.language_model(ids())
    with pytest.raises(ValueError, match=r"each video must have a token, got \[0, 0\]"):
        vamba(video(0), ids())
    strange = Attention(DIM, head_dim=HEAD)
    strange.__class__ = nn.Module
    strange.o_proj = nn.Identity()
    with pytest.raises(TypeError, match=r"must have head_dim and q_proj, .* alone, .* got in_proj, o_proj, out_proj"):
        CrossAttention(strange)
