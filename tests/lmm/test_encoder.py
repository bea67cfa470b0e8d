"""Frames to soft tokens: whole clips, any sizes, parts, and streams give what backbone and connector give."""

import gc
import weakref

import pytest
import torch

from ssmvid.lmm import MambaMia, MLPConnector, Perceiver, Pool, Redundancy, Storm, VisualTokenEncoder
from ssmvid.registry import create_backbone
from ssmvid.scan import Grid

LLM_DIM = 12
SMALL = {"dim": 16, "depth": 2, "num_classes": 0, "img_size": 16, "num_frames": 8}
MULTISCAN = SMALL | {"hybrid": "MW", "tubelet": (2, 8, 8), "state_size": 4, "head_dim": 8}
MAKE = {
    "pool": lambda: MLPConnector(dim=16, llm_dim=LLM_DIM, reducer=Pool(stride=(2, 1, 2))),
    "storm": lambda: Storm(dim=16, llm_dim=LLM_DIM, pool=(2, 1, 1), causal=True),
    "redundancy": lambda: MLPConnector(dim=16, llm_dim=LLM_DIM, reducer=Redundancy(keep=0.5, chunk=3)),
    "mambamia": lambda: MambaMia(
        dim=16, llm_dim=LLM_DIM, frame=4, patches=2, threshold=0.05, min_frames=1, state_size=4, head_dim=8
    ),
}


def make(connector="pool", clip_frames=None, **options):
    torch.manual_seed(0)
    backbone = create_backbone("multiscan_tiny", **MULTISCAN | options)
    return VisualTokenEncoder(backbone, MAKE[connector](), clip_frames=clip_frames).eval()


@pytest.mark.parametrize("connector", MAKE)
@torch.no_grad()
def test_a_batch_is_the_connector_on_the_backbone(connector):
    encoder, clips = make(connector), torch.randn(2, 3, 10, 16, 16)
    tokens, positions, mask = encoder(clips)
    assert tokens.shape[:2] == positions.shape[:2] == mask.shape
    for i in range(2):
        soft, _, rows = encoder.connector(*encoder.backbone.forward_tokens(clips[i : i + 1]))
        m = soft.shape[1]
        torch.testing.assert_close(tokens[i, :m], soft[0], atol=1e-5, rtol=1e-5)
        assert mask[i].tolist() == [True] * m + [False] * (mask.shape[1] - m)
        t, h, w = positions[i, :m].long().unbind(-1)
        assert torch.equal((t // 2 * 2 + h) * 2 + w, rows[0])  # 2 frames a token, 2 x 2 tokens a frame
        assert (m <= encoder.num_tokens(10, 16, 16)) if not encoder.connector.exact else m == mask.shape[1]


@torch.no_grad()
def test_times_are_those_of_the_first_frame_of_each_brick():
    encoder, times = make(), torch.tensor([[0.0, 0.5, 1.5, 2.0, 7.0, 8.0]])
    positions = encoder(torch.randn(1, 3, 6, 16, 16), times).positions[0]
    assert positions.tolist() == [[0, 0, 0], [0, 1, 0], [7, 0, 0], [7, 1, 0]]


@pytest.mark.parametrize(
    ("model", "options"), [("multiscan_tiny", MULTISCAN), ("videomamba_tiny", SMALL | {"tubelet": (2, 8, 8)})]
)
@pytest.mark.parametrize("connector", ["pool", "redundancy"])
@torch.no_grad()
def test_clips_of_any_sizes(model, options, connector):
    torch.manual_seed(0)
    encoder = VisualTokenEncoder(create_backbone(model, **options), MAKE[connector]()).eval()
    clips = [torch.randn(3, *size) for size in ((6, 16, 24), (2, 8, 8), (4, 16, 16))]
    tokens, positions, mask = encoder(clips, [torch.rand(clip.shape[1]) for clip in clips])
    assert mask.sum(1).tolist() == [encoder.num_tokens(*clip.shape[1:]) for clip in clips]
    assert not tokens[~mask].any()
    assert not positions[~mask].any()
    for clip, own, there in zip(clips, tokens, mask):
        torch.testing.assert_close(own[there], encoder(clip[None]).tokens[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_images():
    torch.manual_seed(0)
    backbone = create_backbone("multiscan_tiny", **MULTISCAN | {"tubelet": (1, 8, 8), "num_frames": 1})
    encoder, images = VisualTokenEncoder(backbone, MAKE["pool"]()).eval(), torch.randn(2, 3, 16, 24)
    assert torch.equal(encoder(images).tokens, encoder(images.unsqueeze(2)).tokens)
    assert encoder(images).tokens.shape == (2, encoder.num_tokens(1, 16, 24), LLM_DIM)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("vmamba_tiny_s2l5", {"dim": 8, "depths": (1, 1, 1, 1)}),
        ("mambavision_tiny", {"dim": 8, "depths": (1, 1, 2, 2)}),
        ("multiscan_tiny", MULTISCAN),
        ("vim_tiny", {"dim": 16, "depth": 1}),
    ],
)
@torch.no_grad()
def test_the_grid_is_known_before(model, options):
    backbone = create_backbone(model, **options | {"num_classes": 0}).eval()
    encoder = VisualTokenEncoder(
        backbone, MLPConnector(dim=backbone.num_features, llm_dim=4, reducer=Pool(stride=(1, 2, 2)))
    )
    T, (H, W) = 2 * (backbone.num_frames > 1) or 1, (64, 96)
    tokens, grid = backbone.forward_tokens(torch.randn(1, 3, T, H, W))
    assert encoder.grid(T, H, W) == grid
    assert tokens.shape[1] == grid.length
    assert encoder.num_tokens(T, H, W) == encoder(torch.randn(1, 3, T, H, W)).tokens.shape[1]


@torch.no_grad()
def test_parts_of_a_file_are_clips_of_it_and_only_their_tokens_are_held():
    encoder, clip = make(clip_frames=4), torch.randn(1, 3, 42, 16, 16)
    tokens = torch.cat([encoder.backbone.forward_tokens(part)[0] for part in clip.split(4, dim=2)], dim=1)
    expected = encoder.connector(tokens, Grid(21, 2, 2)).tokens
    torch.testing.assert_close(encoder(clip).tokens, expected)
    alive, most = weakref.WeakSet(), 0

    def parts():
        nonlocal most
        for i in range(0, 42, 8):
            part = clip[:, :, i : i + 8].clone()
            alive.add(part)
            most = max(most, len(alive))
            yield part, torch.arange(i, i + part.shape[2])[None] / 2

    gc.disable()
    try:
        got = encoder.encode(parts())
    finally:
        gc.enable()
    torch.testing.assert_close(got.tokens, expected)
    assert got.positions[0, :, 0].tolist() == [2.0 * (i // 2) for i in range(22)]
    assert most <= 2


@pytest.mark.parametrize(("connector", "frames"), [("pool", 4), ("storm", 4), ("storm", 8), ("pool", 12)])
@pytest.mark.parametrize("causal_frames", [1, 2])
@torch.no_grad()
def test_a_stream_equals_the_clip(connector, frames, causal_frames):
    encoder, clip = make(connector, causal_frames=causal_frames), torch.randn(2, 3, 14, 16, 24)
    assert encoder.stream_frames == 4
    state, parts = encoder.init_state(2, (16, 24)), []
    for part in clip.split(frames, dim=2):
        soft, state = encoder.push(part, state)
        parts.append(soft)
    whole = encoder(clip)
    torch.testing.assert_close(torch.cat([part.tokens for part in parts], 1), whole.tokens, atol=1e-4, rtol=1e-4)
    assert torch.equal(torch.cat([part.positions for part in parts], 1), whole.positions)
    assert state.frames == 14
    with pytest.raises(ValueError, match=r"14 frames were pushed, no multiple of 4, which ended the stream"):
        encoder.push(clip[:, :, :4], state)


@torch.no_grad()
def test_times_of_a_stream():
    encoder = make(causal_frames=1)
    soft, _ = encoder.push(torch.randn(1, 3, 4, 16, 16), encoder.init_state(1), torch.tensor([[5.0, 6.0, 7.0, 8.0]]))
    assert soft.positions[0, :, 0].tolist() == [5.0, 5.0]


def test_gradients_reach_the_backbone_through_pushes():
    encoder, clip = make("storm", causal_frames=1), torch.randn(1, 3, 8, 16, 16, requires_grad=True)
    _, state = encoder.push(clip[:, :, :4], encoder.init_state(1))
    soft, _ = encoder.push(clip[:, :, 4:], state)
    soft.tokens.square().sum().backward()
    assert clip.grad[:, :, :4].abs().sum() > 0


def test_what_cannot_stream_says_why():
    with pytest.raises(ValueError, match="a MultiScan that sees all of time cannot stream: take a multiscan"):
        make().init_state(1)
    with pytest.raises(ValueError, match="MLPConnector: cannot stream, as a token depends on later frames"):
        make("redundancy", causal_frames=1).init_state(1)
    with pytest.raises(ValueError, match="MambaMia: cannot stream"):
        make("mambamia", causal_frames=1).init_state(1)
    with pytest.raises(ValueError, match=r"letter W for A|attends to all segments before"):
        make(causal_frames=1, hybrid="MA").init_state(1)
    video_mamba = VisualTokenEncoder(
        create_backbone("videomamba_tiny", **SMALL), Perceiver(dim=16, llm_dim=4, head_dim=8)
    )
    with pytest.raises(ValueError, match="a VideoMamba that sees all of time cannot stream"):
        video_mamba.init_state(1)


def test_wrong_calls_are_refused():
    encoder = make()
    with pytest.raises(ValueError, match=r"multiple of the backbone's tubelet \(2 frames\), got 3"):
        VisualTokenEncoder(encoder.backbone, encoder.connector, clip_frames=3)
    with pytest.raises(ValueError, match=r"multiples of \(2, 8, 8\), got \(3, 16, 16\): resize or crop"):
        encoder.num_tokens(3, 16, 16)
    with pytest.raises(ValueError, match="at least one clip, got none"):
        encoder([])
    with pytest.raises(ValueError, match="parts of one H and W, got grids"):
        encoder.encode([(torch.randn(1, 3, 2, 16, size), None) for size in (16, 24)])
    with pytest.raises(ValueError, match=r"times must be \(b, T\), one a frame, for 1 clips of 2 token frames"):
        encoder(torch.randn(1, 3, 4, 16, 16), torch.zeros(1, 2))
