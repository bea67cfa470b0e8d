"""What an op is measured against, each called as the op's public function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmvid_kernels import Walk


class Peer(NamedTuple):
    """Another way to the same end.

    `same` is False for what mixes tokens of these sizes and does not compute the op: its result is not checked.
    `needs` names a package and a device type without which it cannot run.
    """

    name: str
    run: Callable[..., Any]
    same: bool = True
    needs: tuple[str | None, str | None] = (None, None)

    def why_not(self, device: str) -> str:
        """Why it cannot run here; empty where it can."""
        package, kind = self.needs
        if package and find_spec(package) is None:
            return f"{package} is not installed"
        return f"it needs a {kind} device, this is {device}" if kind and kind != device else ""


def selective_scan_loop(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, *, dt_bias: Tensor, dt_softplus: bool
) -> tuple[Tensor, Tensor]:
    """The honest baseline in PyTorch: one vectorised step a token over `unbind`, whose backward stays linear in l."""
    dt = F.softplus(dt + dt_bias)
    h = x.new_zeros(x.shape[0], *A.shape)
    ys = []
    for x_i, dt_i, B_i, C_i in zip(x.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1)):
        h = torch.exp(dt_i[..., None] * A) * h + (dt_i * x_i)[..., None] * B_i[:, None]
        ys.append((h * C_i[:, None]).sum(-1))
    return torch.stack(ys, 1) + D * x, h


def ssd_scan_loop(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, *, dt_bias: Tensor, dt_softplus: bool
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


def causal_conv1d_grouped(x: Tensor, weight: Tensor, bias: Tensor, *, activation: str) -> tuple[Tensor, Tensor | None]:
    """torch's own grouped convolution, channel-first as it wants it, and back."""
    y = F.conv1d(x.transpose(1, 2), weight[:, None], bias, padding=weight.shape[1] - 1, groups=weight.shape[0])
    return F.silu(y[..., : x.shape[1]].transpose(1, 2)), None


def simple_gla(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, *, dt_bias: Tensor, dt_softplus: bool
) -> tuple[Tensor, Tensor | None]:
    """flash-linear-attention's scalar-decay attention, which is SSD: C, B, dt x for queries, keys, values."""
    from fla.ops.simple_gla import chunk_simple_gla

    dt = F.softplus(dt + dt_bias)
    shared = (B.shape[0], B.shape[1], x.shape[2], B.shape[-1])  # one group for all heads
    q, key = C.expand(shared).contiguous(), B.expand(shared).contiguous()
    y, _ = chunk_simple_gla(q, key, (dt[..., None] * x).to(x.dtype), dt * A, scale=1.0)
    return y + D[:, None] * x, None


def rms_norm_added(x: Tensor, weight: Tensor, *, residual: Tensor) -> tuple[Tensor, Tensor]:
    """torch's own norm after an add."""
    stream = residual + x
    return F.rms_norm(stream, weight.shape, weight, 1e-5), stream


def layer_norm_added(x: Tensor, weight: Tensor, bias: Tensor, *, residual: Tensor) -> tuple[Tensor, Tensor]:
    """torch's own norm after an add."""
    stream = residual + x
    return F.layer_norm(stream, weight.shape, weight, bias, 1e-5), stream


def attention(x: Tensor, **_: object) -> tuple[Tensor, None]:
    """torch's fused attention with x for queries, keys and values: what mixes the same tokens in a transformer."""
    heads = x.transpose(1, 2)
    return F.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2), None


def permuted(run: Callable[..., Any], merge: bool) -> Callable[..., Any]:
    """k runs of one path over permuted copies, their results permuted back: VMamba's cross-scan and, added, merge.

    `run` is this package's own op, so that the ratio is what fusing the paths is worth. With two orders, there and
    back, it is Vim's flip, scan, flip.
    """

    def all_paths(walks: Sequence[Walk], x: Tensor, **given: Any) -> tuple[Tensor, None]:
        ys = []
        for path, walk in enumerate(walks):
            rows = walk.rows().long().to(x.device)
            there = lambda tensor, rows=rows: tensor.index_select(1, rows)
            own = {
                name: there(value[:, path]) if name in ("dt", "B", "C") else value[path]
                for name, value in given.items()
                if isinstance(value, Tensor)
            }
            y = run(there(x), **{**given, **own})[0]
            ys.append(y.index_select(1, torch.argsort(rows)))
        return (sum(ys[1:], ys[0]) if merge else torch.stack(ys, 1)), None

    return all_paths


PEERS = {
    "s6": (Peer("unbind loop", selective_scan_loop),),
    "ssd": (
        Peer("unbind loop", ssd_scan_loop),
        Peer("fla simple_gla", simple_gla, needs=("fla", "cuda")),
        Peer("attention", attention, same=False),
    ),
    "conv": (Peer("F.conv1d", causal_conv1d_grouped),),
    "rms_norm": (Peer("F.rms_norm", rms_norm_added),),
    "layer_norm": (Peer("F.layer_norm", layer_norm_added),),
}


def peers(op: str, run: Callable[..., Any], paths: int) -> tuple[Peer, ...]:
    """What stands beside `run`, the op's own function: other code for one path, unfused runs for several."""
    return (Peer("permute, scan, merge", permuted(run, merge=op != "conv")),) if paths else PEERS[op]
