"""PlainMamba: blocks of one width over a convolutional stem, no class token, continuous paths through each frame."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ssmvid.backbones.base import Backbone, Stream
from ssmvid.backbones.isotropic import Isotropic
from ssmvid.layers import ConvStem, to_maps, to_tokens
from ssmvid.mixers import PlainMambaMixer
from ssmvid.scan import Merge, patterns_by_layer

STEM_DIM = 64
FINAL_EPS = 1e-6


class PlainMamba(Isotropic):
    """Tokens of an image or a clip, and logits from their mean.

    `from_official` turns the released checkpoints into these names. `num_frames > 1` adds VideoMamba's temporal table:
    a video model, which was not released; each frame's path then starts afresh, the state goes on.

    Args:
        dim: width of a token.
        depth: blocks.
        stem_depth: convolutions in the stem between the first and the one that makes tokens.
        conv: a depthwise convolution behind the first block.
        num_classes: 0 for no classifier.
        num_frames: frames T of the clips the temporal table is made for.
        img_size: H and W, or both, that the spatial table is made for.
        tubelet: frames, one, and rows and columns of a token, both even.
        in_chans: colour channels c.
        state_size: n of the scans.
        orders: the scan orders of every block, or several such lists for `schedule='alternate'`; they share all
            parameters.
        schedule: which list a layer takes: 'same', 'alternate' or 'halves'.
        merge: how the outputs along a block's orders merge: 'sum', 'mean', 'concat' or 'gated'; as in `ScanPattern`.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; the others' grow linearly towards it.

    Raises:
        ValueError: the tubelet is another, the sizes do not fit it, or an order, schedule or merge is unknown.

    Source: Yang et al. 2024, arXiv:2403.17695, section 3, and its released code (Apache-2.0).
    """

    stem = Backbone.stem + r"|^dw\."

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        stem_depth: int = 2,
        conv: bool = False,
        num_classes: int = 1000,
        num_frames: int = 1,
        img_size: int | Sequence[int] = 224,
        tubelet: Sequence[int] = (1, 16, 16),
        in_chans: int = 3,
        state_size: int = 16,
        orders: Sequence[str] | Sequence[Sequence[str]] = (
            "thw+snake2d",
            "thw+snake2d+rev",
            "twh+snake2d",
            "twh+snake2d+rev",
        ),
        schedule: str = "same",
        merge: Merge = "sum",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        t, h, w = tubelet
        if t != 1 or h % 2 or w % 2:
            raise ValueError(f"PlainMamba: tubelet must be one frame, even rows and even columns, got {(t, h, w)}")
        patterns = patterns_by_layer(orders, schedule, depth, merge)
        super().__init__(
            mixers=[PlainMambaMixer(dim, pattern=pattern, state_size=state_size) for pattern in patterns],
            dim=dim,
            num_classes=num_classes,
            num_frames=num_frames,
            img_size=img_size,
            patch_embed=ConvStem(_convs(dim, stem_depth, in_chans, (h, w)), channels=in_chans, tubelet=(1, h, w)),
            norm=nn.LayerNorm,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )
        self.norm_f = nn.LayerNorm(dim, eps=FINAL_EPS)
        depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.dw = nn.Sequential(depthwise, nn.BatchNorm2d(dim)) if conv else None

    @staticmethod
    def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Released keys renamed."""
        if not any(".mamba." in key for key in state):
            return dict(state)
        renamed = {}
        for key, value in state.items():
            key = key.removeprefix("backbone.").replace(".mamba.", ".mixer.").replace("layers.0.dw.", "dw.")
            key = key.replace("patch_embed.", "patch_embed.convs.", 1).replace("head.fc.", "head.")
            renamed[key.replace("ln1.", "norm_f.")] = value
        return renamed

    def advance(self, index: int, stream: Stream) -> Stream:
        stream = super().advance(index, stream)
        if index or self.dw is None:
            return stream
        maps = to_maps(self.settled(stream).to(stream.tokens.dtype), stream.grid)
        return Stream(F.gelu(to_tokens(self.dw(maps), stream.grid.t)), None, stream.grid)


def _convs(dim: int, depth: int, in_chans: int, tubelet: tuple[int, int]) -> nn.Sequential:
    """Frames at half the resolution, `depth` more convolutions, then tokens; named as in the released checkpoints."""

    def conv(channels: int, width: int, stride: int) -> list[nn.Module]:
        convolution = nn.Conv2d(channels, STEM_DIM, width, stride, padding=width // 2, bias=False)
        return [convolution, nn.BatchNorm2d(STEM_DIM), nn.ReLU()]

    half = (tubelet[0] // 2, tubelet[1] // 2)
    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(*conv(in_chans, 7, 2)),
            convs=nn.Sequential(*(layer for _ in range(depth) for layer in conv(STEM_DIM, 3, 1))),
            projection=nn.Conv2d(STEM_DIM, dim, half, half),
        )
    )
