"""The language model: published sizes and keys, step by step equals all at once, soft tokens among words."""

import math

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from ssmvid.lmm import LanguageModel
from ssmvid.mixers import Attention
from tests.lmm.connectors import CONFIGS, lively

WORDS, DIM = 20, 16
HYBRIDS = {"M": None, "MF": None, "SM": None, "MW": 4, "WMMM": 1}
EACH = pytest.mark.parametrize("hybrid", HYBRIDS)


def make(hybrid="M", window=None, **options):
    torch.manual_seed(0)
    model = LanguageModel(
        vocab_size=WORDS, dim=DIM, depth=4, hybrid=hybrid, window=window, state_size=4, head_dim=8, **options
    )
    return lively(model)


def ids(batch=2, length=13):
    return torch.randint(0, WORDS, (batch, length), generator=torch.Generator().manual_seed(1))


def published(dim, depth):
    """Keys and shapes of a checkpoint of mamba_ssm's MambaLMHeadModel with Mamba-2."""
    inner, heads, n, words = 2 * dim, 2 * dim // 64, 128, 50288
    layer = {
        "norm.weight": (dim,),
        "mixer.in_proj.weight": (2 * inner + 2 * n + heads, dim),
        "mixer.conv1d.weight": (inner + 2 * n, 1, 4),
        "mixer.conv1d.bias": (inner + 2 * n,),
        "mixer.dt_bias": (heads,),
        "mixer.A_log": (heads,),
        "mixer.D": (heads,),
        "mixer.norm.weight": (inner,),
        "mixer.out_proj.weight": (dim, inner),
    }
    shapes = {f"backbone.layers.{i}.{key}": shape for i in range(depth) for key, shape in layer.items()}
    table = {"backbone.embedding.weight": (words, dim), "lm_head.weight": (words, dim)}
    return shapes | table | {"backbone.norm_f.weight": (dim,)}


SIZES = {  # width, depth, millions of parameters
    "mamba2_130m": (768, 24, 129),
    "mamba2_370m": (1024, 48, 368),
    "mamba2_1_3b": (2048, 48, 1344),
    "mamba2_2_7b": (2560, 64, 2703),
}


def configured(name):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose(f"language_model/{name}").language_model
    with torch.device("meta"):
        return instantiate(cfg)


@pytest.mark.parametrize("name", SIZES)
def test_a_published_checkpoint_has_its_keys(name):
    dim, depth, millions = SIZES[name]
    model, shapes = configured(name), published(dim, depth)
    assert {key: tuple(t.shape) for key, t in model.state_dict().items()} == shapes
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == sum(map(math.prod, shapes.values())) - 50288 * dim  # the head is the table
    assert round(parameters / 1e6) == millions


def test_every_size_is_tried():
    others = {"mamba2_attention", "vamba"}
    assert {path.stem for path in (CONFIGS / "language_model").glob("*.yaml")} == {*SIZES, *others}
    layers = configured("mamba2_attention").backbone.layers
    assert sum(isinstance(layer.mixer, Attention) for layer in layers) == 8
    assert (len(configured("vamba").attentions), len(configured("vamba").layers)) == (12, 11)


@EACH
@pytest.mark.parametrize("sizes", [[1] * 13, [7, 1, 5]])
@torch.no_grad()
def test_step_by_step_equals_all_at_once(hybrid, sizes):
    model, tokens = make(hybrid, HYBRIDS[hybrid]), ids()
    state, parts = model.init_state(2), []
    before = [tuple(t.shape for t in own) for own in state]
    for part in tokens.split(sizes, dim=1):
        logits, state = model.step(part, state)
        parts.append(logits)
    assert [tuple(t.shape for t in own) for own in state] == before
    torch.testing.assert_close(torch.cat(parts, 1), model(tokens), atol=1e-4, rtol=1e-4)


@EACH
@torch.no_grad()
def test_a_later_token_changes_nothing_before_it(hybrid):
    model, tokens = make(hybrid, HYBRIDS[hybrid]), ids()
    changed = tokens.clone()
    changed[:, 6] = (changed[:, 6] + 1) % WORDS
    got, other = model(tokens), model(changed)
    assert torch.equal(got[:, :6], other[:, :6])
    assert (got[:, 6:] != other[:, 6:]).any(-1).all()


@pytest.mark.parametrize("hybrid", [*HYBRIDS, "AM"])
def test_every_parameter_and_the_soft_tokens_get_a_gradient(hybrid):
    model, soft = make(hybrid, HYBRIDS.get(hybrid)), torch.randn(2, 3, DIM, requires_grad=True)
    tokens = ids().clamp(max=WORDS - 2)
    tokens[:, 4:7] = WORDS - 1
    logits = model(model.splice(tokens, soft, placeholder=WORDS - 1))
    (logits * torch.randn_like(logits)).sum().backward()
    assert soft.grad.abs().sum() > 0
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@torch.no_grad()
def test_soft_tokens_take_the_places_of_their_placeholder():
    model = make()
    tokens, soft = torch.tensor([[3, 9, 9, 4, 1], [9, 2, 2, 2, 2]]), torch.randn(2, 2, DIM)
    mask = torch.tensor([[True, True], [True, False]])
    embedded = model.splice(tokens, soft, placeholder=9, mask=mask)
    expected = model.backbone.embedding(tokens)
    expected[0, 1:3], expected[1, 0] = soft[0], soft[1, 0]
    assert torch.equal(embedded, expected)
    words = model.backbone.embedding(torch.tensor([[5, 6], [7, 7]]))
    alike = model.splice(tokens, words, placeholder=9, mask=mask)
    assert torch.equal(model(alike), model(torch.tensor([[3, 5, 6, 4, 1], [7, 2, 2, 2, 2]])))


def test_a_wrong_number_of_placeholders_is_refused():
    with pytest.raises(ValueError, match=r"rows of ids hold \[2\] placeholders \(9\), their clips have \[3\] soft"):
        make().splice(torch.tensor([[9, 9, 1]]), torch.randn(1, 3, DIM), placeholder=9)


@EACH
@torch.no_grad()
def test_generation_is_the_likeliest_word_of_all_so_far(hybrid):
    model, tokens = make(hybrid, HYBRIDS[hybrid]), ids(length=4)
    new = model.generate(tokens, max_new_tokens=6)
    sequence = tokens
    for _ in range(6):
        sequence = torch.cat([sequence, model(sequence)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(new, sequence[:, 4:])
    _, state = model.step(tokens[:, :3], model.init_state(2))
    assert torch.equal(model.generate(tokens[:, 3:], max_new_tokens=6, state=state), new)
    assert torch.equal(model.generate(model.backbone.embedding(tokens), max_new_tokens=6), new)


@torch.no_grad()
def test_a_row_that_has_ended_is_filled_up():
    model, tokens = make(), ids(length=4)
    free = model.generate(tokens, max_new_tokens=8)
    eos = free[0, 1].item()
    got = model.generate(tokens, max_new_tokens=8, eos=eos)
    for row, words in zip(free.tolist(), got.tolist()):
        end = row.index(eos) + 1 if eos in row else len(row)
        assert words == (row[:end] + [eos] * 8)[: len(words)]
    alone = model.generate(tokens[:1], max_new_tokens=8, eos=eos)
    assert alone.tolist() == [free[0, : free[0].tolist().index(eos) + 1].tolist()]
    assert model.generate(tokens, max_new_tokens=0).shape == (2, 0)


def test_what_cannot_be_generated_says_so():
    with pytest.raises(ValueError, match=r"cannot stream, as it attends to all segments before: .* letter W for A"):
        make("MA").generate(ids(), max_new_tokens=1)
    with pytest.raises(ValueError, match=r"a prompt holds at least one token, got \(2, 0\)"):
        make().generate(ids(length=0), max_new_tokens=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@torch.no_grad()
def test_any_dtype(dtype):
    model = make("MW", 3).to(dtype)
    assert model(ids()).dtype == dtype
    assert model(ids()).isfinite().all()
    assert model.step(ids(), model.init_state(2))[0].dtype == dtype
    assert model(ids(length=0)).shape == (2, 0, 32)
