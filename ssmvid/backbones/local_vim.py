"""LocalVim: Vim with windows among its scan orders, and other orders in every layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from ssmvid.backbones.base import Stream
from ssmvid.backbones.isotropic import Isotropic
from ssmvid.layers import rotate_grid
from ssmvid.mixers import LocalMamba
from ssmvid.scan import Merge, patterns_by_layer

SIDE = 14  # rows and columns that the rotary angles are counted in, at any size


class LocalVim(Isotropic):
    """Tokens of an image or a clip, and logits from their mean or from a class token half way along each path.

    Windows are padded with zeros to their size, and the zeros are scanned, as in the released code.
    `num_frames > 1` adds VideoMamba's temporal table: a video model, which was not released.

    Args:
        dim: width of a token, a multiple of 4.
        depth: blocks.
        cls_token: the classifier reads a class token in the middle, not the mean over all tokens.
        rope: rotary positions over rows and columns before every block.
        search: the supernet: paths merged by learnt weights, which say what orders to keep.
        num_classes: 0 for no classifier.
        num_frames: frames T of the clips the temporal table is made for.
        img_size: H and W, or both, that the spatial table is made for.
        tubelet: frames, rows and columns of a token.
        in_chans: colour channels c.
        state_size: n of the scans.
        orders: the scan orders of every block, or several such lists for `schedule='alternate'`: as many lists as
            layers give each its own. Of the orders, only their number changes the parameters.
        schedule: which list a layer takes: 'same', 'alternate' or 'halves'.
        merge: how the outputs along a block's orders merge: 'sum', 'mean', 'concat' or 'gated'; as in `ScanPattern`.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; the others' grow linearly towards it.

    Raises:
        ValueError: the sizes do not fit the tubelet, `dim` no rotary positions, or an order, schedule or merge is
            unknown.

    Source: Huang et al. 2024, arXiv:2403.09338, and its released code (Apache-2.0).
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        cls_token: bool = False,
        rope: bool = True,
        search: bool = False,
        num_classes: int = 1000,
        num_frames: int = 1,
        img_size: int | Sequence[int] = 224,
        tubelet: Sequence[int] = (1, 16, 16),
        in_chans: int = 3,
        state_size: int = 16,
        orders: Sequence[str] | Sequence[Sequence[str]] = ("thw", "thw+rev", "thw+window2", "thw+window2+rev"),
        schedule: str = "same",
        merge: Merge = "sum",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        if rope and dim % 4:
            raise ValueError(f"LocalVim: dim must be a multiple of 4 for rotary positions, got {dim}")
        patterns = patterns_by_layer(orders, schedule, depth, merge, place="middle")
        super().__init__(
            mixers=[LocalMamba(dim, pattern=pattern, state_size=state_size, search=search) for pattern in patterns],
            dim=dim,
            num_classes=num_classes,
            num_frames=num_frames,
            img_size=img_size,
            tubelet=tubelet,
            in_chans=in_chans,
            prefix=int(cls_token),
            place="middle",
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )
        self.rope = rope

    @staticmethod
    def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Released keys renamed; the rotary tables, which are no weights, left out."""
        renamed = {re.sub(r"\.A_log_(\d)$", r".A_\1_log", key): value for key, value in state.items()}
        return {
            key.replace(".multi_scan.weights", ".weights"): value
            for key, value in renamed.items()
            if not key.startswith("rope.")
        }

    def advance(self, index: int, stream: Stream) -> Stream:
        if self.rope:
            tokens, residual, grid = stream
            turned = None if residual is None else rotate_grid(residual, grid, SIDE)
            stream = Stream(rotate_grid(tokens, grid, SIDE), turned, grid)
        return super().advance(index, stream)
