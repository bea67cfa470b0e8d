"""VideoMamba's masked pretraining: the visible tokens through the encoder, then beside a teacher's features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmvid.backbones.base import Stream
from ssmvid.backbones.videomamba import VideoMamba
from ssmvid.layers import sincos_table
from ssmvid.scan import Grid


class Decoder(nn.Module):
    """One linear layer to the teacher's width, normed to unit length.

    Args:
        dim: width of a token.
        out_dim: width of the teacher's.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.head = nn.Linear(dim, out_dim)
        self.norm = nn.LayerNorm(out_dim)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (b, l, dim) in, unit vectors (b, l, out_dim) out."""
        projected = self.head(tokens.to(self.head.weight.dtype))
        return F.normalize(self.norm(projected.to(self.norm.weight.dtype)), dim=-1)


class VideoMambaPretrain(VideoMamba):
    """The student of masked pretraining: what it says of the visible tokens is to be a CLIP teacher's features.

    Hidden tokens never enter the encoder. Only raster order is defined on what is left, so that is the only one.
    `forward_features` and the rest of a backbone's methods work on whole clips.

    Args:
        dim: width of a token.
        depth: blocks.
        out_dim: width of the teacher's tokens.
        aligned: which tokens the decoder reads. 'stream': as released, the residual stream before the last mixer,
            so that the last layer and the final norm learn nothing; 'normed': the features after the final norm.
        num_frames: frames T of the clips the temporal table is made for, at least 2.
        img_size: H and W, or both, that the spatial table is made for.
        tubelet: frames, rows and columns of a token.
        in_chans: colour channels c.
        state_size: n of the scans.
        drop_path_rate: stochastic depth of the last block; the others' grow linearly towards it.

    Raises:
        ValueError: the sizes are no multiple of the tubelet, or `aligned` is unknown.

    Source: Li et al. 2024, arXiv:2403.06977, section 3.3, and its released code (Apache-2.0); after Li et al. 2023
        (Unmasked Teacher), arXiv:2303.16058.
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        out_dim: int = 512,
        aligned: Literal["stream", "normed"] = "stream",
        num_frames: int = 8,
        img_size: int | Sequence[int] = 224,
        tubelet: Sequence[int] = (1, 16, 16),
        in_chans: int = 3,
        state_size: int = 16,
        drop_path_rate: float = 0.0,
    ) -> None:
        if aligned not in ("stream", "normed"):
            raise ValueError(f"VideoMambaPretrain: aligned must be 'stream' or 'normed', got {aligned!r}")
        super().__init__(
            dim=dim,
            depth=depth,
            num_classes=0,
            num_frames=num_frames,
            img_size=img_size,
            tubelet=tubelet,
            in_chans=in_chans,
            state_size=state_size,
            drop_path_rate=drop_path_rate,
        )
        self.aligned = aligned
        self.clip_decoder = nn.ModuleList([Decoder(dim, out_dim)])

    def forward(self, clip: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """What the student says of the visible tokens.

        Args:
            clip: (b, c, T, H, W), as in `forward_tokens`.
            mask: bool (b, l), True where a token is hidden; as many in each sample.

        Returns:
            (b, 1 + visible, out_dim), unit vectors: the class token's, then the visible tokens' in `thw` order.

        Raises:
            ValueError: the mask has another shape or dtype, or hides more tokens in one sample than in another.
        """
        whole = self.embed(clip)
        rows = self._visible_rows(mask, whole)
        tokens = whole.tokens.gather(1, rows.expand(-1, -1, whole.tokens.shape[-1]))
        stream = Stream(tokens, None, Grid(1, 1, rows.shape[1] - 1))
        for i in range(len(self.layers)):
            stream = self.advance(i, stream)
        read = stream.residual if self.aligned == "stream" else self.finish(stream)
        assert read is not None
        table = sincos_table(whole.tokens.shape[1], self.embed_dim, device=rows.device)[0]
        return self.clip_decoder[0](read + table[rows.squeeze(-1)])

    @staticmethod
    def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"norm_f.weight" if key == "norm.weight" else key: value for key, value in state.items()}

    def _visible_rows(self, mask: Tensor, whole: Stream) -> Tensor:
        """The rows of the class token and of the tokens that are not hidden, (b, 1 + visible, 1)."""
        expected = (len(whole.tokens), whole.grid.length)
        if mask.dtype != torch.bool or tuple(mask.shape) != expected:
            raise ValueError(f"mask must be bool {expected}, one entry a token, got {mask.dtype} {tuple(mask.shape)}")
        hidden = mask.sum(1)
        if (hidden != hidden[:1]).any():
            raise ValueError(f"mask must hide as many tokens in each sample, got {hidden.tolist()}")
        # A stable sort puts the visible tokens first, in their order.
        order = mask.to(torch.uint8).argsort(dim=1, stable=True)[:, : mask.shape[1] - int(hidden.max())]
        return torch.cat([torch.zeros_like(order[:, :1]), order + 1], dim=1).unsqueeze(-1)
