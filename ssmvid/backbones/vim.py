"""Vim: VideoMamba's ancestor for images: the class token in the middle, the mean of both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ssmvid.backbones.isotropic import Isotropic
from ssmvid.mixers import Mamba
from ssmvid.scan import Merge, patterns_by_layer


class Vim(Isotropic):
    """Tokens of an image or a clip, and logits from its class token, which the scans meet half way.

    The attribute names are those of the released checkpoints, which load with `strict=True`.
    `num_frames > 1` adds VideoMamba's temporal table: a video model, which was not released.

    Args:
        dim: width of a token.
        depth: blocks.
        num_classes: 0 for no classifier.
        num_frames: frames T of the clips the temporal table is made for.
        img_size: H and W, or both, that the spatial table is made for.
        tubelet: frames, rows and columns of a token.
        stride: of the tubelets; None: they do not overlap.
        in_chans: colour channels c.
        state_size: n of the scans.
        bimamba: 'v2' for a parameter set each direction, 'v1' for one set but for A.
        orders: the scan orders of every block, or several such lists for `schedule='alternate'`.
        schedule: which list a layer takes: 'same', 'alternate' or 'halves'.
        merge: how the outputs along a block's orders merge: 'sum', 'mean', 'concat' or 'gated'; as in `ScanPattern`.
            None: as released, their mean with 'v2', their sum with 'v1'.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; the others' grow linearly towards it.

    Raises:
        ValueError: the sizes do not fit the tubelet, `bimamba` is unknown, or an order, schedule or merge is.

    Source: Zhu et al. 2024, arXiv:2401.09417, sections 3.2 and 4.2, and its released code (Apache-2.0).
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        num_classes: int = 1000,
        num_frames: int = 1,
        img_size: int | Sequence[int] = 224,
        tubelet: Sequence[int] = (1, 16, 16),
        stride: Sequence[int] | None = None,
        in_chans: int = 3,
        state_size: int = 16,
        bimamba: Literal["v1", "v2"] = "v2",
        orders: Sequence[str] | Sequence[Sequence[str]] = ("thw", "thw+rev"),
        schedule: str = "same",
        merge: Merge | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        if bimamba not in ("v1", "v2"):
            raise ValueError(f"Vim: bimamba must be 'v1' or 'v2', got {bimamba!r}")
        v1 = bimamba == "v1"
        released: Merge = "sum" if v1 else "mean"
        patterns = patterns_by_layer(orders, schedule, depth, merge or released, place="middle")
        super().__init__(
            mixers=[Mamba(dim, pattern=pattern, state_size=state_size, shared=v1) for pattern in patterns],
            dim=dim,
            num_classes=num_classes,
            num_frames=num_frames,
            img_size=img_size,
            tubelet=tubelet,
            stride=stride,
            in_chans=in_chans,
            prefix=1,
            place="middle",
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )
