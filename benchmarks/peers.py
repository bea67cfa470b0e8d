"""What an op is measured against, each called as the op's public function."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def selective_scan_loop(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, *, dt_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """The honest baseline in PyTorch: one vectorised step a token over `unbind`, whose backward stays linear in l."""
    dt = F.softplus(dt + dt_bias)
    h = x.new_zeros(x.shape[0], *A.shape)
    ys = []
    for x_i, dt_i, B_i, C_i in zip(x.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1)):
        h = torch.exp(dt_i[..., None] * A) * h + (dt_i * x_i)[..., None] * B_i[:, None]
        ys.append((h * C_i[:, None]).sum(-1))
    return torch.stack(ys, 1) + D * x, h


def causal_conv1d_grouped(x: Tensor, weight: Tensor, bias: Tensor, *, activation: str) -> tuple[Tensor, Tensor | None]:
    """torch's own grouped convolution, channel-first as it wants it, and back."""
    y = F.conv1d(x.transpose(1, 2), weight[:, None], bias, padding=weight.shape[1] - 1, groups=weight.shape[0])
    return F.silu(y[..., : x.shape[1]].transpose(1, 2)), None


def ssd_scan_loop(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, *, dt_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """The honest baseline in PyTorch for one group: one vectorised step a token over `unbind`."""
    dt = F.softplus(dt + dt_bias)
    decay, drive = torch.exp(dt * A)[..., None, None], (dt[..., None] * x)[..., None]
    h = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[-1])
    ys = []
    for decay_i, drive_i, B_i, C_i in zip(decay.unbind(1), drive.unbind(1), B.unbind(1), C.unbind(1)):
        h = decay_i * h + drive_i * B_i[:, :, None]
        ys.append((h * C_i[:, :, None]).sum(-1))
    return torch.stack(ys, 1) + D[:, None] * x, h


def rms_norm_added(x: Tensor, weight: Tensor, *, residual: Tensor) -> tuple[Tensor, Tensor]:
    """torch's own norm after an add."""
    stream = residual + x
    return F.rms_norm(stream, weight.shape, weight, 1e-5), stream


def layer_norm_added(x: Tensor, weight: Tensor, bias: Tensor, *, residual: Tensor) -> tuple[Tensor, Tensor]:
    """torch's own norm after an add."""
    stream = residual + x
    return F.layer_norm(stream, weight.shape, weight, bias, 1e-5), stream
