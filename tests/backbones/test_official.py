"""Every family held to the released code: its parameter counts, its keys, and its output on random weights."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ssmvid import create_model
from ssmvid_kernels import use_backend

HERE = Path(__file__).parent

# Parameters of the released classes.
COUNTS = {
    "videomamba_tiny.k400_f8": 7_033_744,
    "videomamba_tiny.k400_f16": 7_035_280,
    "videomamba_tiny.k400_f32": 7_038_352,
    "videomamba_tiny.k400_f64": 7_044_496,
    "videomamba_tiny.in1k": 7_148_008,
    "videomamba_small.k400_f8": 25_568_656,
    "videomamba_small.k400_f16": 25_571_728,
    "videomamba_small.k400_f32": 25_577_872,
    "videomamba_small.k400_f64": 25_590_160,
    "videomamba_small.in1k": 25_796_584,
    "videomamba_middle.k400_f8": 73_875_856,
    "videomamba_middle.k400_f16": 73_880_464,
    "videomamba_middle.k400_f32": 73_889_680,
    "videomamba_middle.k400_f64": 73_908_112,
    "videomamba_middle.in1k": 74_217_448,
    "videomamba_base.in1k": 97_598_440,
    "videomamba_middle_pretrain": 73_941_504,
    "vim_tiny": 7_148_008,
    "vim_small": 25_796_584,
    "vim_base": 97_598_440,
    "vim_tiny_stride8": 7_250_344,
    "vim_small_stride8": 26_001_256,
    "mambareg_tiny": 9_264_232,
    "mambareg_small": 27_801_064,
    "mambareg_base": 99_301_096,
    "mambareg_large": 341_222_376,
    "local_vim_tiny": 7_994_152,
    "local_vim_tiny_middle_cls_token": 7_994_536,
    "local_vim_small": 27_783_784,
    "local_vim_tiny_search": 5_473_288,
    "mamba2d_small": 24_505_192,
    "mamba2d_base": 94_425_832,
    "mamba3d_small.k400_f16": 36_380_176,
    "mamba3d_small.ucf101_f32": 36_559_973,
    "plain_mamba_l1": 7_551_656,
    "plain_mamba_l2": 26_145_832,
    "plain_mamba_l3": 50_956_456,
    "vanilla_vmamba_tiny": 22_893_448,
    "vanilla_vmamba_small": 44_417_416,
    "vanilla_vmamba_base": 76_254_056,
    "vmamba_tiny_s2l5": 30_705_832,
    "vmamba_small_s2l15": 50_147_752,
    "vmamba_base_s2l15": 88_557_800,
    "vmamba_tiny_s1l8": 30_249_064,
    "vmamba_small_s1l20": 49_012_840,
    "vmamba_base_s1l20": 86_614_504,
    "mambavision_tiny": 31_794_248,
    "mambavision_tiny2": 35_104_008,
    "mambavision_small": 50_140_584,
    "mambavision_base": 97_685_288,
    "mambavision_large": 227_961_048,
    "mambavision_large2": 241_554_824,
    "mambavision_large2_512": 241_554_824,
    "mambavision_large3_256": 739_570_472,
    "mambavision_large3_512": 739_570_472,
}


def plain(cfg: dict) -> dict:
    """What the isotropic families' released constructors call by other names."""
    patch = cfg["patch_size"]
    return {
        "dim": cfg["embed_dim"],
        "depth": cfg["depth"],
        "num_classes": cfg["num_classes"],
        "img_size": cfg["img_size"],
        "tubelet": (1, patch, patch),
    }


def local(cfg: dict) -> dict:
    """LocalVim's, and its names of scan orders."""
    names = {"h": "thw", "v": "twh", "w2": "thw+window2", "w7": "thw+window7"}
    every = [name + flip for name in names for flip in ("", "_flip")]
    orders = [
        [names[path.removesuffix("_flip")] + "+rev" * path.endswith("_flip") for path in layer]
        for layer in cfg["directions"] or [every]
    ]
    return plain(cfg) | {"rope": cfg["if_rope"], "orders": orders, "schedule": "alternate"}


def stages(cfg: dict) -> dict:
    """What VMamba's released constructor calls by other names."""
    return {
        "dim": cfg["dims"],
        "depths": cfg["depths"],
        "num_classes": cfg["num_classes"],
        "img_size": cfg["imgsize"],
    }


# Golden -> the model, its options from the golden's cfg, and which of the outputs is which.
GOLDENS = {
    "videomamba_f4": (
        "videomamba_tiny",
        lambda cfg: plain(cfg) | {"num_frames": cfg["num_frames"]},
        {"logits": lambda model, x: model(x), "features": lambda model, x: model.forward_features(x)[:, 0]},
    ),
    "videomamba_pretrain": (
        "videomamba_middle_pretrain",
        lambda cfg: {
            **{key: value for key, value in plain({"num_classes": 0, **cfg}).items() if key != "num_classes"},
            "num_frames": cfg["num_frames"],
            "out_dim": cfg["clip_output_dim"],
        },
        {"clip": lambda model, x, mask: model(x, mask[:, 1:])[None]},  # the released mask has the class token's bit
    ),
    "vim": ("vim_tiny", plain, {"y": lambda model, x: model(x)}),
    "mambareg": (
        "mambareg_small",
        lambda cfg: plain(cfg) | {"registers": cfg["num_cls_tokens"], "reduce": cfg["cls_reduce"]},
        {"y": lambda model, x: model(x)},
    ),
    "local_vim": ("local_vim_tiny", local, {"y": lambda model, x: model(x)}),
    "local_vim_rope": ("local_vim_tiny", local, {"y": lambda model, x: model(x)}),  # and padded windows
    "local_vim_middle": ("local_vim_tiny_middle_cls_token", local, {"y": lambda model, x: model(x)}),
    "local_vim_search": ("local_vim_tiny_search", local, {"y": lambda model, x: model(x)}),
    "mamba3d": (
        "mamba3d_small",
        lambda cfg: {
            "dim": cfg["arch"]["embed_dims"],
            "depth": cfg["layers"],
            "num_frames": cfg["num_frames"],
            "num_classes": cfg["num_classes"],
            "img_size": cfg["img_size"],
            "tubelet": (cfg["patch_size_temporal"], cfg["patch_size"], cfg["patch_size"]),
            "state_size": cfg["d_state"],
        },
        {"y": lambda model, x: model(x)},
    ),
    "plain_mamba": (
        "plain_mamba_l1",
        lambda cfg: {
            "dim": cfg["dim"],
            "depth": cfg["depth"],
            "state_size": cfg["d_state"],
            "img_size": cfg["img"],
            "stem_depth": 2,
            "num_classes": 0,
        },
        {"feat": lambda model, x: model.forward_features(x)},
    ),
    "vmamba": ("vmamba_tiny_s1l8", stages, {"y": lambda model, x: model(x)}),
    "vmamba_vanilla": (
        "vanilla_vmamba_tiny",
        lambda cfg: stages(cfg) | {"state_size": cfg["ssm_d_state"]},
        {"y": lambda model, x: model(x)},
    ),
    "mambavision": (
        "mambavision_tiny",
        lambda cfg: {
            "dim": cfg["dim"],
            "depths": cfg["depths"],
            "heads": cfg["num_heads"][2:],
            "windows": cfg["window_size"][2:],
            "stem_dim": cfg["in_dim"],
            "mlp_ratio": cfg["mlp_ratio"],
            "num_classes": cfg["num_classes"],
            "img_size": cfg["resolution"],
        },
        {"y": lambda model, x: model(x)},
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_count_is_the_released_one(name):
    with torch.device("meta"):
        model = create_model(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[name]


def test_a_model_of_another_length_is_the_tagged_one():
    with torch.device("meta"):
        tagged, sized = create_model("videomamba_tiny.k400_f32"), create_model("videomamba_tiny", num_frames=32)
    assert {k: v.shape for k, v in tagged.state_dict().items()} == {k: v.shape for k, v in sized.state_dict().items()}


@pytest.mark.parametrize("listing", sorted((HERE / "keys").glob("*.txt")), ids=lambda path: path.stem)
def test_keys_and_shapes_are_the_released_ones(listing):
    lines = (line.split("\t") for line in listing.read_text().splitlines())
    with torch.device("meta"):
        model = create_model(listing.stem)
        released = {key: torch.empty(ast.literal_eval(shape)) for key, shape in lines}
    converted = {key: value.shape for key, value in model.from_official(released).items()}
    assert converted == {key: value.shape for key, value in model.state_dict().items()}


def load(name: str, **options):
    """A golden, and its model with its weights."""
    with np.load(HERE / "goldens" / f"{name}.npz") as file:
        golden = {key: file[key] for key in file.files}
    model_name, translate, outputs = GOLDENS[name]
    model = create_model(model_name, **translate(json.loads(str(golden["cfg"]))), **options)
    weights = {key[3:]: torch.from_numpy(value) for key, value in golden.items() if key.startswith("sd/")}
    model.load_state_dict(model.from_official(weights), strict=True)
    expected = [(torch.from_numpy(golden[f"out/{key}"]), output) for key, output in outputs.items()]
    return model.eval(), [torch.from_numpy(golden[key]) for key in golden if key.startswith("in/")], expected


@pytest.mark.parametrize("backend", ["reference", "torch", "cpu"])
@pytest.mark.parametrize("name", GOLDENS)
def test_outputs_are_the_released_codes(name, backend):
    model, inputs, expected = load(name)
    with use_backend(backend), torch.no_grad():
        single = [ours(model, *inputs) for _, ours in expected]
        model, inputs = model.double(), [x.double() if x.is_floating_point() else x for x in inputs]
        for got, (theirs, ours) in zip(single, expected, strict=True):
            rounding = (ours(model, *inputs) - theirs).abs().max().item()  # theirs alone, of fp32
            assert rounding <= 1e-5
            torch.testing.assert_close(got, theirs, atol=max(1e-5, 3 * rounding), rtol=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("videomamba_f4", {"orders": ["thw+rev", "thw"]}),
        ("videomamba_f4", {"orders": ["hwt", "hwt+rev"]}),
        ("videomamba_f4", {"orders": [["thw", "thw+rev"], ["hwt", "hwt+rev"]], "schedule": "alternate"}),
        ("videomamba_f4", {"orders": ["thw+snake", "thw+snake+rev"]}),
        ("vim", {"orders": ["thw+hilbert", "thw+hilbert+rev"]}),
    ],
)
def test_other_orders_take_the_same_weights_and_give_another_output(name, options):
    model, inputs, expected = load(name, **options)
    with torch.no_grad():
        assert (expected[0][1](model, *inputs) - expected[0][0]).abs().max() > 1e-3
