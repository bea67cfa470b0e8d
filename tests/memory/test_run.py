import pytest
import torch

from ssmvid import create_model
from ssmvid.memory import POLICIES, Cells, run
from tests.backbones.families import TINY

SMALL = {"dim": 16, "num_classes": 0, "img_size": 16, "tubelet": (1, 8, 8), "state_size": 4, "head_dim": 8}
ALONG_LAYERS = {
    **{policy: Cells.of(policy, 4) for policy in POLICIES[:-1]},
    "5 tokens": Cells(2, nested=True, tokens=5),
}
CUTS = {
    **ALONG_LAYERS,
    "1 x 1": Cells(1, 1),
    "2 x 2": Cells(2, 2),
    "3 x 3": Cells(3, 3),
    "4 x 2": Cells(4, 2),
    "1 x all": Cells(1, 99),
}


def make(hybrid, **options):
    torch.manual_seed(0)
    options = SMALL | {"hybrid": hybrid, "depth": 4, "registers": 1} | options
    model = create_model("multiscan_tiny", **options).double()
    for key, parameter in model.named_parameters():
        if "dt_bias" in key or "dt_proj.bias" in key:  # steps of the order of one, or the states would hardly be seen
            torch.nn.init.uniform_(parameter, -0.5, 1)
        elif "in_proj" in key:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def gradients(model, clips, cells, offload=False):
    """The loss, and the gradients of all parameters and of the clips: every token has a target of its own."""
    model.zero_grad()
    batch = isinstance(clips, torch.Tensor)
    clips = clips.clone().requires_grad_() if batch else [clip.clone().requires_grad_() for clip in clips]
    count = clips.shape[2] * 4 if batch else sum(clip[0].numel() // 64 for clip in clips)
    target = torch.linspace(-1, 1, count * model.num_features).reshape(1, count, -1).double()
    loss = run(model, clips, lambda x, at: ((x - target[:, at]) ** 2).sum() / count, cells=cells, offload=offload)
    loss.backward()
    return [loss, *([clips.grad] if batch else [clip.grad for clip in clips]), *(p.grad for p in model.parameters())]


def assert_same(got, expected):
    for one, other in zip(got, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("hybrid", ["M", "S", "MW", "MWSF", "F"])
@pytest.mark.parametrize(("frames", "window"), [(1, 3), (2, 4)])
def test_every_cut_has_the_gradients_of_off(hybrid, frames, window):
    model, clip = make(hybrid, causal_frames=frames, window=window), torch.randn(2, 3, 7, 16, 16).double()
    expected = gradients(model, clip, CUTS["off"])
    for cells in CUTS.values():
        assert_same(gradients(model, clip, cells), expected)


def test_off_is_the_model_itself():
    model, clip = make("MWSF", causal_frames=2, window=4), torch.randn(1, 3, 5, 16, 16).double()
    torch.testing.assert_close(run(model, clip, lambda x, at: x, cells=Cells(None)), model.forward_features(clip))


@pytest.mark.parametrize("cells", CUTS.values(), ids=CUTS)
def test_packed_clips_have_the_gradients_of_the_clips_apart(cells):
    model = make("MWSF", causal_frames=2, window=4)
    clips = [torch.randn(3, t, 16, 16).double() for t in (3, 1, 8, 2)]
    packed = gradients(model, clips, cells)
    apart = gradients(model, clips, Cells(None))
    assert_same(packed, apart)
    total = 0
    target = torch.linspace(-1, 1, 56 * 16).reshape(1, 56, 16).double()
    for clip, at in zip(clips, target.split([12, 4, 32, 8], dim=1)):
        total = total + ((model.forward_features(clip[None]) - at) ** 2).sum() / 56
    torch.testing.assert_close(packed[0], total)


@pytest.mark.parametrize("hybrid", ["MA", "SWFA", "M"])
def test_stacks_that_see_all_of_time_have_the_gradients_of_off_along_the_layers(hybrid):
    model, clip = make(hybrid), torch.randn(2, 3, 3, 16, 16).double()
    expected = gradients(model, clip, CUTS["off"])
    for cells in ALONG_LAYERS.values():
        assert_same(gradients(model, clip, cells), expected)


@pytest.mark.parametrize("name", ["videomamba_tiny", "vmamba_tiny_s2l5", "mambavision_tiny"])
def test_other_families_have_the_gradients_of_off_along_the_layers(name):
    torch.manual_seed(0)
    model = create_model(name, **TINY[name]).double().eval()
    clip, seen = torch.randn(1, 3, 2, *[TINY[name]["img_size"]] * 2).double(), []
    for cells in ALONG_LAYERS.values():
        model.zero_grad()
        loss = run(model, clip, lambda x, at: (x**3).mean(), cells=cells)
        loss.backward()
        seen.append([loss, *(parameter.grad for parameter in model.parameters())])
    for other in seen[1:]:
        assert_same(other, seen[0])


def test_boundaries_that_wait_on_the_host_change_nothing():
    model, clip = make("MWSF", causal_frames=2, window=4), torch.randn(1, 3, 5, 16, 16).double()
    assert_same(gradients(model, clip, Cells(2, 1), offload=True), gradients(model, clip, Cells(None)))


def test_a_loss_sees_the_rows_of_its_chunk():
    model, seen = make("M", causal_frames=2), []
    clips = [torch.randn(3, t, 16, 16).double() for t in (3, 4)]
    run(model, clips, lambda x, at: seen.append((at, x.shape[1])) or x.sum(), cells=Cells(None, 2))
    assert seen == [(slice(0, 12), 12), (slice(12, 28), 16)]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("multiscan_tiny", SMALL | {"hybrid": "M", "depth": 2}, r"layers\.0: Mamba2: cannot stream.*'token_chunks'"),
        ("multiscan_tiny", SMALL | {"hybrid": "MA", "depth": 2, "causal_frames": 1}, r"layers\.1: Attention: cannot"),
        ("videomamba_tiny", {"num_frames": 2}, r"causal in time, VideoMamba is not: use policy 'token_chunks'"),
    ],
)
def test_stacks_without_a_causal_time_are_refused_by_name_with_the_alternative(name, options, message):
    with pytest.raises(ValueError, match=message):
        run(create_model(name, **options), torch.zeros(1, 3, 2, 16, 16), lambda x, at: x.sum(), cells=Cells(1, 1))


def test_clips_that_cannot_be_packed_in_chunks_are_refused():
    clips = [torch.zeros(3, 2, 16, 16), torch.zeros(3, 2, 16, 24)]
    with pytest.raises(ValueError, match=r"must have one H and W, got T, H, W of \[\(2, 16, 16\), \(2, 16, 24\)\]"):
        run(make("M", causal_frames=1), clips, lambda x, at: x.sum(), cells=Cells(1, 1))
    with pytest.raises(ValueError, match="at least one frame, got none"):
        run(make("M", causal_frames=1), [], lambda x, at: x.sum(), cells=Cells(1, 1))
