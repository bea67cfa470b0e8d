import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ssmvid.mixers import Attention
from ssmvid.mixers.attention import SHORT
from ssmvid.scan import Grid

GRID = Grid(5, 2, 2)


def masked(mixer, tokens, visible):
    """The layer with an explicit mask: visible (l, l), query by key."""
    q, k, v = (t.unflatten(-1, (-1, 4)).transpose(1, 2) for t in mixer.in_proj(tokens).chunk(3, dim=-1))
    weights = (q @ k.mT / 2).masked_fill(~visible, -torch.inf).softmax(-1)
    return mixer.out_proj((weights @ v).transpose(1, 2).flatten(2))


def make(**options):
    torch.manual_seed(0)
    mixer = Attention(8, head_dim=4, **options).double()
    torch.nn.init.normal_(mixer.in_proj.weight)
    return mixer


@pytest.mark.parametrize("prefix", [0, 3])
@pytest.mark.parametrize("window", [None, 1, 2, 5, 9])
def test_windows_of_frames_and_a_prefix_that_sees_and_is_seen(window, prefix):
    mixer, tokens = make(window=window), torch.randn(2, prefix + GRID.length, 8, dtype=torch.float64)
    frame = torch.arange(GRID.length) // 4 // (window or 9)
    visible = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool)
    visible[prefix:, prefix:] = frame[:, None] == frame
    torch.testing.assert_close(mixer(tokens, GRID), masked(mixer, tokens, visible))


@pytest.mark.parametrize("prefix", [0, 3])
@pytest.mark.parametrize("window", [None, 2, 4, 6, 10])
def test_segments_and_the_frames_before_them(window, prefix):
    mixer = make(causal_frames=2, window=window)
    tokens = torch.randn(2, 3 * prefix + GRID.length, 8, dtype=torch.float64)
    segment = torch.arange(3).repeat_interleave(prefix + 8)[: tokens.shape[1]]
    gap = segment[:, None] - segment
    visible = (gap >= 0) & (gap <= (9 if window is None else window // 2 - 1))
    torch.testing.assert_close(mixer(tokens, GRID), masked(mixer, tokens, visible))


def test_a_sliding_window_over_a_sequence_is_sambas():
    """One token a frame: each sees `window` tokens, itself among them."""
    mixer, tokens = make(causal_frames=1, window=4), torch.randn(1, 11, 8, dtype=torch.float64)
    gap = torch.arange(11)[:, None] - torch.arange(11)
    torch.testing.assert_close(mixer(tokens, Grid(11, 1, 1)), masked(mixer, tokens, (gap >= 0) & (gap <= 3)))


def test_more_short_segments_than_go_together():
    mixer, tokens = make(causal_frames=1), torch.randn(1, 2 * SHORT + 7, 8, dtype=torch.float64)
    visible = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).tril()
    torch.testing.assert_close(mixer(tokens, Grid(tokens.shape[1], 1, 1)), masked(mixer, tokens, visible))


@pytest.mark.parametrize("options", [{}, {"window": 2}, {"causal_frames": 2}, {"causal_frames": 2, "window": 2}])
@pytest.mark.parametrize("shape", [(0, 20, 8), (2, 0, 8)])
def test_empty_input(options, shape):
    grid = GRID if shape[1] else Grid(0, 2, 2)
    assert make(**options)(torch.randn(shape, dtype=torch.float64), grid).shape == shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window a multiple of it, got None and 0 frames"),
        ({"window": 3, "causal_frames": 2}, "window a multiple of it, got 2 and 3 frames"),
        ({"causal_frames": 0}, "causal_frames must be at least 1, .* got 0 and None frames"),
        ({"head_dim": 3}, "head_dim must divide dim = 8, got 3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Attention(8, **{"head_dim": 4} | options)


class Made(TorchDispatchMode):
    """Counts the numbers in all tensors that are made inside."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **kwargs or {})
        self.count += sum(t.numel() for t in torch.utils._pytree.tree_leaves(made) if isinstance(t, torch.Tensor))
        return made


def test_work_in_windows_grows_with_the_length_and_no_faster():
    mixer, counts = Attention(8, head_dim=4, causal_frames=1, window=2), []
    for frames in (64, 256):
        tokens = torch.randn(1, 4 * frames, 8, requires_grad=True)
        with Made() as made:
            mixer(tokens, Grid(frames, 2, 2)).sum().backward()
        counts.append(made.count)
    assert counts[1] < 4.2 * counts[0]
