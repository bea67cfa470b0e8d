"""Mamba-Reg: Vim with registers spread over the sequence, which the classifier reads all together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssmvid.backbones.isotropic import Isotropic, rms_norm
from ssmvid.mixers import Mamba
from ssmvid.scan import Grid, Merge, patterns_by_layer


class MambaReg(Isotropic):
    """Tokens of an image, and logits from its registers, side by side.

    Written from the paper; the attribute names are those of the released checkpoints, which load with `strict=True`.

    Args:
        dim: width of a token.
        depth: blocks.
        registers: tokens without a patch, one behind each of as many equal stretches of the sequence.
        reduce: each register goes through a linear layer to `dim / reduce` before the classifier; 1: none.
        num_classes: 0 for no classifier.
        num_frames: frames T of the clips the temporal table is made for; 1, as released, for images.
        img_size: H and W, or both, that the spatial table is made for.
        tubelet: frames, rows and columns of a token.
        in_chans: colour channels c.
        state_size: n of the scans.
        orders: the scan orders of every block, or several such lists for `schedule='alternate'`.
        schedule: which list a layer takes: 'same', 'alternate' or 'halves'.
        merge: how the outputs along a block's orders merge: 'sum', 'mean', 'concat' or 'gated'; as in `ScanPattern`.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; the others' grow linearly towards it.

    Raises:
        ValueError: the sizes do not fit the tubelet, `reduce` does not divide `dim`, or an order is unknown.

    Source: Wang et al. 2024, arXiv:2405.14858, section 3.
    """

    undecayed = (*Isotropic.undecayed, "pos_embed_cls")

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        registers: int = 12,
        reduce: int = 1,
        num_classes: int = 1000,
        num_frames: int = 1,
        img_size: int | Sequence[int] = 224,
        tubelet: Sequence[int] = (1, 16, 16),
        in_chans: int = 3,
        state_size: int = 16,
        orders: Sequence[str] | Sequence[Sequence[str]] = ("thw", "thw+rev"),
        schedule: str = "same",
        merge: Merge = "mean",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        if dim % reduce:
            raise ValueError(f"MambaReg: reduce must divide dim = {dim}, got {reduce}")
        patterns = patterns_by_layer(orders, schedule, depth, merge, place="spread")
        super().__init__(
            mixers=[Mamba(dim, pattern=pattern, state_size=state_size) for pattern in patterns],
            dim=dim,
            num_classes=num_classes,
            num_frames=num_frames,
            img_size=img_size,
            tubelet=tubelet,
            in_chans=in_chans,
            prefix=registers,
            place="spread",
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            head_dim=registers * dim // reduce,
        )
        self.neck = nn.Linear(dim, dim // reduce, bias=False) if reduce > 1 else None
        self.norm_neck = rms_norm(self.head_hidden_size) if reduce > 1 else None

    def positions(self, grid: Grid) -> tuple[Tensor, Tensor]:
        """The registers have a table of their own, `pos_embed_cls`."""
        return self.pos_embed_cls, self.grid_positions(self.pos_embed, grid)

    def pool(self, features: Tensor) -> Tensor:
        registers = features[:, : self.num_prefix_tokens]
        if self.neck is None or self.norm_neck is None:
            return registers.flatten(1)
        narrow = self.neck(registers).flatten(1)
        return self.norm_neck(narrow.to(self.norm_neck.weight.dtype))  # autocast made it narrower than the weight

    def _make_tables(self) -> None:
        super()._make_tables()
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid.h * self.grid.w, self.embed_dim))
        self.pos_embed_cls = nn.Parameter(torch.zeros(1, self.num_prefix_tokens, self.embed_dim))
        nn.init.trunc_normal_(self.pos_embed_cls, std=0.02)
