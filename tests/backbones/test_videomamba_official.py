"""Held to the released code: its keys, its counts, and its output on random weights."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from ssmvid import create_model
from ssmvid_kernels import use_backend

HERE = Path(__file__).parent

# Of the released classes, 400 classes for video, 1000 for images.
VIDEO_COUNTS = {
    ("tiny", 8): 7_033_744,
    ("tiny", 16): 7_035_280,
    ("tiny", 32): 7_038_352,
    ("tiny", 64): 7_044_496,
    ("small", 8): 25_568_656,
    ("small", 16): 25_571_728,
    ("small", 32): 25_577_872,
    ("small", 64): 25_590_160,
    ("middle", 8): 73_875_856,
    ("middle", 16): 73_880_464,
    ("middle", 32): 73_889_680,
    ("middle", 64): 73_908_112,
}
IMAGE_COUNTS = {"tiny": 7_148_008, "small": 25_796_584, "middle": 74_217_448, "base": 97_598_440}


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("size", "frames"), VIDEO_COUNTS)
def test_video_parameter_count(size, frames):
    with torch.device("meta"):
        tagged = create_model(f"videomamba_{size}.k400_f{frames}")
        sized = create_model(f"videomamba_{size}", num_frames=frames)
    assert count(tagged) == count(sized) == VIDEO_COUNTS[size, frames]


@pytest.mark.parametrize("size", IMAGE_COUNTS)
def test_image_parameter_count(size):
    with torch.device("meta"):
        assert count(create_model(f"videomamba_{size}.in1k")) == IMAGE_COUNTS[size]


@pytest.mark.parametrize("listing", sorted((HERE / "keys").glob("*.txt")), ids=lambda path: path.stem)
def test_keys_and_shapes_are_the_released_ones(listing):
    size, *_, kind = listing.stem.split("_")
    with torch.device("meta"):
        model = create_model(f"videomamba_{size}.{'in1k' if kind == 'image' else 'k400_f8'}")
    released = dict(line.split("\t") for line in listing.read_text().splitlines())
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == {
        key: ast.literal_eval(shape) for key, shape in released.items()
    }


@pytest.fixture(scope="module")
def golden():
    with np.load(HERE / "goldens" / "videomamba_f4.npz") as file:
        return {key: file[key] for key in file.files}


def load(golden, **options):
    cfg = ast.literal_eval(str(golden["cfg"]))
    patch = cfg["patch_size"]
    model = create_model(
        "videomamba_tiny",
        dim=cfg["embed_dim"],
        depth=cfg["depth"],
        num_classes=cfg["num_classes"],
        num_frames=cfg["num_frames"],
        img_size=cfg["img_size"],
        tubelet=(1, patch, patch),
        **options,
    )
    weights = {key[3:]: torch.from_numpy(value) for key, value in golden.items() if key.startswith("sd/")}
    model.load_state_dict(weights, strict=True)
    return model.eval(), torch.from_numpy(golden["in/x"])


@pytest.mark.parametrize("backend", ["reference", "torch", "cpu"])
def test_logits_and_features_are_the_released_codes(golden, backend):
    model, clip = load(golden)
    with use_backend(backend), torch.no_grad():
        features = model.forward_features(clip)
        logits = model(clip)
    for ours, theirs in [(logits, golden["out/logits"]), (features[:, 0], golden["out/features"])]:
        torch.testing.assert_close(ours, torch.from_numpy(theirs), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"orders": ["thw+rev", "thw"]},
        {"orders": ["hwt", "hwt+rev"]},
        {"orders": [["thw", "thw+rev"], ["hwt", "hwt+rev"]], "schedule": "alternate"},
        {"orders": ["thw+snake", "thw+snake+rev"]},
    ],
)
def test_other_orders_take_the_same_weights_and_give_another_output(golden, options):
    model, clip = load(golden, **options)
    with torch.no_grad():
        assert (model(clip) - torch.from_numpy(golden["out/logits"])).abs().max() > 1e-3
