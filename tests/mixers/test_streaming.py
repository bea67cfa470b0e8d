"""What every mixer that is causal in time keeps: segment by segment equals all at once, and nobody sees the future."""

from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ssmvid.mixers import MLP, Attention, Mamba, Mamba2
from ssmvid.scan import Grid, ScanPattern
from tests.mixers.weights import enliven

DIM, FRAMES = 8, 2
GRID = Grid(7, 2, 3)
SEGMENT = Grid(FRAMES, 2, 3)


def scanning(kind, names=("hwt", "thw+rev"), causal_frames=FRAMES, place="head", merge="sum", **options):
    pattern = ScanPattern.parse(names, merge, place, causal_frames)
    return kind(DIM, pattern=pattern, state_size=3, **options)


def attending(window, causal_frames=FRAMES):
    return Attention(DIM, head_dim=4, causal_frames=causal_frames, window=window)


STREAMING = {
    "Mamba": partial(scanning, Mamba),
    "Mamba, shared": partial(scanning, Mamba, shared=True),
    "Mamba, concat": partial(scanning, Mamba, merge="concat"),
    "Mamba, gated": partial(scanning, Mamba, merge="gated"),
    "Mamba2": partial(scanning, Mamba2, head_dim=4),
    "Mamba2, one order": partial(scanning, Mamba2, names=["thw"], head_dim=4),
    "Mamba2, spread": partial(scanning, Mamba2, place="spread", head_dim=4),
    "own segment": partial(attending, 2),
    "two segments": partial(attending, 4),
    "four segments": partial(attending, 8),
    "MLP": partial(MLP, DIM),
}
EACH = pytest.mark.parametrize("name", STREAMING)


def make(name):
    torch.manual_seed(0)
    return enliven(STREAMING[name](), "in_proj")


def cut(tokens, frames, prefix, grid=GRID):
    """Segments of so many frames, a multiple of FRAMES: tokens and grid of each."""
    lengths = [-(-t // FRAMES) * prefix + t * grid.h * grid.w for t in sizes(frames, grid)]
    return zip(tokens.split(lengths, dim=1), [grid._replace(t=t) for t in sizes(frames, grid)])


def sizes(frames, grid):
    return [min(frames, grid.t - first) for first in range(0, grid.t, frames)]


def tokens_for(prefix, batch=2, grid=GRID):
    return torch.randn(batch, -(-grid.t // FRAMES) * prefix + grid.length, DIM, dtype=torch.float64)


@EACH
@pytest.mark.parametrize("prefix", [0, 1, 3])
@pytest.mark.parametrize("frames", [FRAMES, 2 * FRAMES])
def test_segment_by_segment_equals_all_at_once(name, prefix, frames):
    mixer, tokens = make(name), tokens_for(prefix)
    state, parts = mixer.init_state(2, SEGMENT, prefix), []
    for part, grid in cut(tokens, frames, prefix):
        y, state = mixer.step(part, grid, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), mixer(tokens, GRID))


@EACH
def test_gradients_flow_through_the_state(name):
    mixer, tokens = make(name), tokens_for(1).requires_grad_()
    weight = torch.randn_like(tokens)
    expected = torch.autograd.grad((mixer(tokens, GRID) * weight).sum(), [tokens, *mixer.parameters()])
    state, parts = mixer.init_state(2, SEGMENT, 1), []
    for part, grid in cut(tokens, FRAMES, 1):
        y, state = mixer.step(part, grid, state)
        parts.append(y)
    got = torch.autograd.grad((torch.cat(parts, 1) * weight).sum(), [tokens, *mixer.parameters()])
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b)


@EACH
@pytest.mark.parametrize("prefix", [0, 2])
def test_a_later_segment_changes_nothing_before_it(name, prefix):
    mixer, tokens = make(name), tokens_for(prefix)
    before = 2 * (prefix + SEGMENT.length)
    changed = torch.cat([tokens[:, :before], torch.randn_like(tokens[:, before:])], dim=1)
    y, other = mixer(tokens, GRID), mixer(changed, GRID)
    assert torch.equal(y[:, :before], other[:, :before])
    assert not torch.equal(y[:, before:], other[:, before:])


@EACH
def test_packed_clips_are_the_clips_apart(name):
    mixer, grids = make(name), [GRID, Grid(1, 1, 2), Grid(4, 3, 1)]
    alone = [tokens_for(1, batch=1, grid=grid) for grid in grids]
    packed = mixer(torch.cat(alone, dim=1), grids)
    torch.testing.assert_close(packed, torch.cat([mixer(t, g) for t, g in zip(alone, grids)], dim=1))


@EACH
def test_packed_streams_are_the_streams_apart(name):
    mixer, grids = make(name), [SEGMENT, SEGMENT]
    tokens = tokens_for(1, batch=1, grid=Grid(4, 2, 3))
    first, second = tokens.chunk(2, dim=1)
    state, alone = mixer.init_state(2, SEGMENT, 1), mixer.init_state(1, SEGMENT, 1)
    _, state = mixer.step(tokens, grids, state)
    y, _ = mixer.step(tokens.flip(1), grids, state)
    _, after = mixer.step(second, SEGMENT, alone)
    torch.testing.assert_close(y.chunk(2, dim=1)[1], mixer.step(first.flip(1), SEGMENT, after)[0])


@EACH
def test_a_step_costs_the_same_and_the_state_keeps_its_size(name):
    mixer, tokens = make(name), tokens_for(1, grid=SEGMENT)
    state, seen = mixer.init_state(2, SEGMENT, 1), set()
    for _ in range(6):
        size = tuple((tensor.shape, tensor.dtype) for tensor in state)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            _, state = mixer.step(tokens, SEGMENT, state)
        seen.add((size, counter.get_total_flops()))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("mixer", "message"),
    [
        (partial(scanning, Mamba, causal_frames=None), "Mamba: cannot stream, as its scans go through all of time"),
        (partial(scanning, Mamba2, causal_frames=None, head_dim=4), "Mamba2: cannot stream"),
        (partial(attending, None), "Attention: cannot stream, as it attends to all segments before: set .*W for A"),
        (partial(attending, 2, None), "Attention: cannot stream, as it attends to every token"),
    ],
)
def test_what_cannot_stream_says_so(mixer, message):
    with pytest.raises(ValueError, match=message):
        mixer().init_state(1, SEGMENT)
    with pytest.raises(ValueError, match=message):
        mixer().step(torch.randn(1, SEGMENT.length, DIM), SEGMENT, ())


def test_a_state_for_another_segment_is_refused():
    mixer = attending(4)
    state = mixer.init_state(1, Grid(2, 2, 2))
    with pytest.raises(ValueError, match="the state holds 8 tokens, the window 12: make it with init_state"):
        mixer.step(torch.randn(1, SEGMENT.length, DIM), SEGMENT, state)
