"""Mamba's mixer that can drop tokens between its convolution and its scan, by the scan's own step sizes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ssmvid.mixers.mamba import Mamba
from ssmvid.scan import Grid, ScanPattern


class DecimatedMamba(Mamba):
    """`Mamba` along one order, which can scan only the tokens whose step sizes dt have the largest norm.

    A step size near zero hands the state on and leaves the token out: what is dropped had the least to say.

    Args:
        dim, state_size, expand: as of `Mamba`.

    Source: Ben-Kish et al. 2024 (DeciMamba), arXiv:2406.14528, section 4, and its released code.
    """

    def __init__(self, dim: int, *, state_size: int = 16, expand: int = 2) -> None:
        super().__init__(dim, pattern=ScanPattern.parse(["thw"]), state_size=state_size, expand=expand)

    def decimate(self, tokens: Tensor, keep: int) -> tuple[Tensor, Tensor]:
        """Mix tokens (b, l, dim), of which `keep` <= l stay.

        Returns:
            (b, keep, dim), and the rows they have among `tokens`, int64 (b, keep), ascending.
        """
        x, z = self.in_proj(tokens).chunk(2, dim=-1)
        x, _ = self._convolved(x, self.pattern.walks(Grid(1, 1, x.shape[1])))  # (b, 1, l, inner)
        x = x.squeeze(1)
        rows = self.step_norms(x).topk(keep, dim=-1).indices.sort(dim=-1).values
        x, z = (t.gather(1, rows[..., None].expand(-1, -1, t.shape[-1])) for t in (x, z))
        y, _ = self._scanned(x.unsqueeze(1), self.pattern.walks(Grid(1, 1, keep)), z=z, merge="sum")
        return self.out_proj(y), rows

    def step_norms(self, x: Tensor) -> Tensor:
        """The norm of dt over channels, (b, l), of convolved inputs x (b, l, inner); no gradient comes from it."""
        x, rank = x.detach(), self.sizes[0]
        dt = F.linear(x, self.get_parameter("x_proj.weight")[:rank])
        dt = F.linear(dt, self.get_parameter("dt_proj.weight"), self.get_parameter("dt_proj.bias"))
        return F.softplus(dt.float()).norm(dim=-1).detach()
