import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ssmvid import create_model
from ssmvid.scan import Grid

SMALL = {"dim": 16, "num_classes": 5, "img_size": 16, "tubelet": (1, 8, 8), "state_size": 4, "head_dim": 8}


def make(hybrid="MWSF", **options):
    torch.manual_seed(0)
    model = create_model("multiscan_tiny", **SMALL | {"hybrid": hybrid, "depth": len(hybrid)} | options).eval()
    for key, parameter in model.named_parameters():
        if "dt_bias" in key or "dt_proj.bias" in key:  # steps of the order of one, or the states would hardly be seen
            torch.nn.init.uniform_(parameter, -0.5, 1)
        elif "in_proj" in key:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def stream(model, clip, frames):
    """`step` on so many frames at a time: the tokens of all, and the last state."""
    state, parts = model.init_state(len(clip), clip.shape[3:]), []
    for part in clip.split(frames, dim=2):
        tokens, state = model.step(part, state)
        parts.append(tokens)
    return torch.cat(parts, dim=1), state


@pytest.mark.parametrize(("name", "count"), [("tiny", 5.7e6), ("small", 22e6), ("base", 86e6), ("large", 304e6)])
def test_parameters_are_those_of_a_vit_of_the_width(name, count):
    with torch.device("meta"):
        model = create_model(f"multiscan_{name}")
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(count, rel=0.08)


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("hybrid", ["MWSF", "M", "MM", "SFWF"])
@pytest.mark.parametrize(("causal_frames", "window"), [(1, None), (1, 3), (2, 4)])
@torch.no_grad()
def test_frame_by_frame_equals_the_whole_clip(hybrid, causal_frames, window, registers):
    model = make(hybrid, causal_frames=causal_frames, window=window, registers=registers)
    clip = torch.randn(2, 3, 7, 24, 16)
    for frames in (causal_frames, 2 * causal_frames, 7):
        tokens, _ = stream(model, clip, frames)
        torch.testing.assert_close(tokens, model.forward_tokens(clip)[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_tubelets_of_several_frames_stream_too():
    model, clip = make(tubelet=(2, 8, 8), num_frames=8, causal_frames=2), torch.randn(1, 3, 10, 16, 16)
    torch.testing.assert_close(stream(model, clip, 4)[0], model.forward_tokens(clip)[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_later_segment_changes_no_earlier_output():
    model, clip = make(causal_frames=2, window=4), torch.randn(1, 3, 6, 16, 16)
    changed = torch.cat([clip[:, :, :4], torch.randn(1, 3, 2, 16, 16)], dim=2)
    tokens, other = model.forward_tokens(clip)[0], model.forward_tokens(changed)[0]
    assert torch.equal(tokens[:, :16], other[:, :16])
    assert not torch.equal(tokens[:, 16:], other[:, 16:])


@torch.no_grad()
def test_a_frame_costs_the_same_at_any_time_of_the_stream():
    """Work and state of frame 100 are those of the first, and nothing in the state counts frames."""
    model, frame = make(causal_frames=1, window=3), torch.randn(1, 3, 1, 16, 16)
    state, seen = model.init_state(1), set()
    for i in range(101):
        size = tuple((tensor.shape, tensor.dtype) for layer in state for tensor in layer)
        with FlopCounterMode(display=False) as counter:
            tokens, state = model.step(frame, state)
        if i in (0, 1, 10, 100):
            seen.add((size, counter.get_total_flops()))
    assert len(seen) == 1
    assert tokens.isfinite().all()
    assert all(tensor.dtype in (torch.float32, torch.bool) for layer in state for tensor in layer)


@pytest.mark.parametrize("causal_frames", [None, 2])
@torch.no_grad()
def test_packed_clips_are_the_clips_apart(causal_frames):
    model = make("MWSA", causal_frames=causal_frames)
    clips = [torch.randn(3, *size) for size in ((5, 16, 16), (1, 8, 24), (2, 16, 8))]
    tokens, grids = model.forward_packed(clips)
    assert grids == [Grid(5, 2, 2), Grid(1, 1, 3), Grid(2, 2, 1)]
    alone = torch.cat([model.forward_tokens(clip[None])[0] for clip in clips], dim=1)
    torch.testing.assert_close(tokens, alone, atol=1e-5, rtol=1e-5)


def test_packing_nothing_is_refused():
    with pytest.raises(ValueError, match="MultiScan: forward_packed needs at least one clip, got none"):
        make().forward_packed([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hybrid": "WM"}, r"MultiScan: layers\.0: Attention: cannot stream.*set causal_frames"),
        ({"hybrid": "MA", "causal_frames": 1}, r"MultiScan: layers\.1: Attention: cannot stream.*letter W for A"),
        ({"hybrid": "FS"}, r"MultiScan: layers\.1: Mamba: cannot stream.*set causal_frames"),
    ],
)
def test_what_cannot_stream_names_the_layer(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options).init_state(1)


def test_a_stream_of_a_size_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"img_size must be multiples of \(1, 8, 8\)"):
        make(causal_frames=1).init_state(1, 20)


def test_registers_are_before_every_segment_and_in_no_output():
    model, clip = make(causal_frames=2, registers=3), torch.randn(1, 3, 5, 16, 16)
    assert model.embed(clip).tokens.shape == (1, 3 * 3 + 20, 16)
    features, (last,) = model.forward_intermediates(clip, indices=1, output_fmt="NLC")
    assert features.shape == last.shape == (1, 20, 16)


@pytest.mark.parametrize("causal_frames", [None, 1])
def test_gradients_and_bf16_autocast_stay_finite_through_training(causal_frames):
    model = make(causal_frames=causal_frames).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    clip, label = torch.randn(4, 3, 3, 16, 16), torch.arange(4)
    losses = []
    for _ in range(20):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(clip).float(), label)
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
