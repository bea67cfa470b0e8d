"""VMamba: stages of blocks that scan the grid along four paths which cross each other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from timm.layers import LayerNorm2d
from torch import Tensor, nn

from ssmvid.backbones.hierarchical import Hierarchical, Stage, drop_path_rates
from ssmvid.blocks import MlpBlock
from ssmvid.layers import ConvStem, PatchMerge2d
from ssmvid.mixers import SS2D
from ssmvid.scan import Merge, patterns_by_layer

NORM_EPS = 1e-5
# Released keys, of the first code and of the present one, and ours. A stage's downsampling is ours of the next.
RENAMES = (
    (r"^classifier\.", ""),
    (r"^patch_embed\.(proj|0)\.", r"patch_embed.convs.0."),
    (r"^patch_embed\.(norm|2)\.", r"patch_embed.convs.1."),
    (r"^patch_embed\.5\.", r"patch_embed.convs.3."),
    (r"^patch_embed\.7\.", r"patch_embed.convs.4."),
    (r"\.(ln_1|norm)\.(?=\w+$)", r".norm1."),
    (r"\.(self_attention|op)\.", r".mixer."),
    (r"\.(x_proj|dt_projs)\.weight$", r".\1_weight"),
)
MERGING = {"1": "norm", "2": "reduction", "norm": "norm", "reduction": "reduction"}
CONVOLVING = {"1": "0", "3": "1"}
# Axes of the tensors that hold one parameter a path; the released ones may have the path and the next axis as one.
STACKED = {"x_proj_weight": 3, "dt_projs_weight": 3, "A_logs": 3, "Ds": 2}


class VMamba(Hierarchical):
    """Tokens of an image, and logits from their mean.

    `from_official` turns released checkpoints, of the first code and of the present one, into these names.
    `num_frames > 1` adds a temporal table and scans all frames as one grid: a video model, which was not released.

    Args:
        dim: width of a token in the first stage; it doubles from stage to stage.
        depths: blocks of each stage.
        state_size: n of the scans.
        expand: inner width of the scans over that of a token.
        mlp_ratio: hidden width of the MLPs over that of a token; 0: none.
        vanilla: as in the first release: scans with a gate, their convolution with a bias, patches that do not
            overlap, and Swin's merging between stages.
        num_classes: 0 for no classifier.
        num_frames: frames T of the clips the temporal table is made for.
        img_size: H and W, or both, that the model is made for.
        in_chans: colour channels c.
        orders: the scan orders of every block, or several such lists for `schedule='alternate'`. Four orders a block
            are the released model; of the orders, only their number changes the parameters.
        schedule: which list a block takes, counted over all stages: 'same', 'alternate' or 'halves'.
        merge: how the outputs along a block's orders merge: 'sum', 'mean', 'concat' or 'gated'; as in `ScanPattern`.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; the others' grow linearly towards it.

    Raises:
        ValueError: the sizes are no multiples of 4, or an order, schedule or merge is unknown or does not fit.

    Source: Liu et al. 2024, arXiv:2401.10166, section 4 and its released code (MIT).
    """

    def __init__(
        self,
        *,
        dim: int,
        depths: Sequence[int],
        state_size: int = 1,
        expand: float = 2.0,
        mlp_ratio: float = 4.0,
        vanilla: bool = False,
        num_classes: int = 1000,
        num_frames: int = 1,
        img_size: int | Sequence[int] = 224,
        in_chans: int = 3,
        orders: Sequence[str] | Sequence[Sequence[str]] = ("thw", "twh", "thw+rev", "twh+rev"),
        schedule: str = "same",
        merge: Merge = "sum",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        dims = [dim * 2**i for i in range(len(depths))]
        patterns = iter(patterns_by_layer(orders, schedule, sum(depths), merge))
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))

        def block(width: int) -> MlpBlock:
            mixer = SS2D(
                width,
                pattern=next(patterns),
                state_size=state_size,
                expand=expand,
                gated=vanilla,
                conv_bias=vanilla,
            )
            return MlpBlock(mixer, dim=width, mlp_ratio=mlp_ratio, drop_path=next(rates))

        super().__init__(
            patch_embed=_patch_embed(dim, in_chans, vanilla),
            stages=[
                Stage([block(width) for _ in range(depth)], downsample=_downsample(width, vanilla) if i else None)
                for i, (width, depth) in enumerate(zip(dims, depths))
            ],
            dims=dims,
            norm=nn.LayerNorm(dims[-1]),
            num_classes=num_classes,
            num_frames=num_frames,
            img_size=img_size,
            drop_rate=drop_rate,
        )

    @staticmethod
    def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Released keys renamed, parameters of the k paths stacked on an axis of their own."""
        if not any(re.search(r"\.(op|self_attention)\.", key) for key in state):
            return dict(state)
        merging = any(re.search(r"\.downsample\.(2|reduction)\.", key) for key in state)
        renamed = {_own_key(key, MERGING if merging else CONVOLVING): value for key, value in state.items()}
        for key, value in renamed.items():
            mixer, _, name = key.rpartition(".")
            if value.dim() < STACKED.get(name, 0):
                paths = renamed[f"{mixer}.dt_projs_bias"].shape[0]
                renamed[key] = value.unflatten(0, (paths, -1))
        return renamed


def _own_key(key: str, downsample: Mapping[str, str]) -> str:
    match = re.match(r"layers\.(\d+)\.downsample\.(\w+)\.(\w+)", key)
    if match:
        return f"layers.{int(match[1]) + 1}.downsample.{downsample[match[2]]}.{match[3]}"
    for released, own in RENAMES:
        key = re.sub(released, own, key)
    return key


def _patch_embed(dim: int, in_chans: int, vanilla: bool) -> ConvStem:
    norm = lambda width: LayerNorm2d(width, eps=NORM_EPS)
    if vanilla:
        return ConvStem(nn.Sequential(nn.Conv2d(in_chans, dim, 4, 4), norm(dim)), channels=in_chans)
    half = dim // 2
    first = [nn.Conv2d(in_chans, half, 3, 2, 1), norm(half), nn.GELU()]
    return ConvStem(nn.Sequential(*first, nn.Conv2d(half, dim, 3, 2, 1), norm(dim)), channels=in_chans)


def _downsample(width: int, vanilla: bool) -> nn.Module:
    """To `width` from half of it."""
    if vanilla:
        return PatchMerge2d(width // 2)
    return nn.Sequential(nn.Conv2d(width // 2, width, 3, 2, 1), LayerNorm2d(width, eps=NORM_EPS))
