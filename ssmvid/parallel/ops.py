"""The ops along sequences that lie on several ranks; outside a context the kernels' own. Signatures are theirs.

What is added is `reverse`: whether each walk goes from the last rank to the first. Every walk keeps to the frames of a
rank before it goes on to the next, so that a rank's stretch of a path is in one piece. A state `h` is the one after
this rank's stretch; `h0` is read for clips that begin on this rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmvid.layers import at_least_fp32
from ssmvid.parallel.context import Context, active_context, refuse_context
from ssmvid.parallel.exchange import Carried
from ssmvid_kernels import conv, s6, ssd
from ssmvid_kernels.conv import Activation, Conv
from ssmvid_kernels.s6 import Merge, Scan
from ssmvid_kernels.walk import Walk


def selective_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    walks: Sequence[Walk],
    reverse: Sequence[bool] | None,
    merge: Merge | None = "sum",
    h0: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> Scan:
    """`ssmvid_kernels.s6.selective_scan` along walks that go on over the ranks.

    Raises:
        ValueError: as there; the mixer is not covered (`reverse` None); h0 with a reversed walk.
    """
    scan = partial(
        s6.selective_scan, x, dt, A, B, C,
        dt_bias=dt_bias, dt_softplus=dt_softplus, walks=walks, merge=merge, cu_seqlens=cu_seqlens,
    )  # fmt: skip
    context = _context("selective_scan", reverse, h0)
    if context is None or reverse is None:
        return scan(D=D, z=z, h0=h0)
    log_decay = _total_step(dt, dt_bias, dt_softplus).unsqueeze(-1) * at_least_fp32(A)  # (b, k, d, n)
    return scan(D=D, z=z, h0=_start(scan, log_decay, h0, reverse, context, _clips(cu_seqlens)))


def ssd_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    walks: Sequence[Walk],
    reverse: Sequence[bool] | None,
    merge: Merge | None = "sum",
    h0: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> Scan:
    """`ssmvid_kernels.ssd.ssd_scan` along walks that go on over the ranks.

    Raises:
        ValueError: as there; the mixer is not covered (`reverse` None); h0 with a reversed walk.
    """
    scan = partial(
        ssd.ssd_scan, x, dt, A, B, C,
        dt_bias=dt_bias, dt_softplus=dt_softplus, walks=walks, merge=merge, cu_seqlens=cu_seqlens,
    )  # fmt: skip
    context = _context("ssd_scan", reverse, h0)
    if context is None or reverse is None:
        return scan(D=D, h0=h0)
    log_decay = _total_step(dt, dt_bias, dt_softplus) * at_least_fp32(A)  # (b, k, heads)
    return scan(D=D, h0=_start(scan, log_decay[..., None, None], h0, reverse, context, _clips(cu_seqlens)))


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: Activation | None = None,
    walks: Sequence[Walk],
    reverse: Sequence[bool] | None,
    h0: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> Conv:
    """`ssmvid_kernels.conv.causal_conv1d` along walks that go on over the ranks.

    Raises:
        ValueError: as there; the mixer is not covered (`reverse` None); h0 with a reversed walk; this rank holds the
            middle of a clip and fewer than width - 1 of its tokens.
    """
    convolve = partial(conv.causal_conv1d, x, weight, bias, activation=activation, walks=walks, cu_seqlens=cu_seqlens)
    context = _context("causal_conv1d", reverse, h0)
    if context is None or reverse is None:
        return convolve(h0=h0)
    halo = weight.shape[-1] - 1
    if context.before and context.after and x.shape[-2] < halo and context.whole[context.rank]:
        raise ValueError(
            f"causal_conv1d: a rank in the middle of a clip needs at least width - 1 = {halo} tokens of it, got "
            f"{x.shape[-2]}: give it more frames"
        )
    clips = _clips(cu_seqlens)
    h0 = _without_joined(h0, context, clips)
    ends = _last_inputs(x, walks, reverse, halo, h0)
    return convolve(h0=_reached(ends, None, h0, reverse, context, clips))


def _context(op: str, reverse: Sequence[bool] | None, h0: Tensor | None) -> Context | None:
    if reverse is None:
        refuse_context(f"{op} in this mixer")
    context = active_context()
    if context is not None and reverse is not None and h0 is not None and any(reverse):
        raise ValueError(f"{op}: h0 goes with walks from the first rank to the last, got reverse = {tuple(reverse)}")
    return context


def _total_step(dt: Tensor, dt_bias: Tensor | None, dt_softplus: bool) -> Tensor:
    """The sum over l of the steps (b, k, l, d) a scan takes: (b, k, d)."""
    dt = at_least_fp32(dt)
    if dt_bias is not None:
        dt = dt + dt_bias.unsqueeze(-2)
    return (F.softplus(dt) if dt_softplus else dt).sum(-2)


def _clips(cu_seqlens: Tensor | None) -> int:
    """How many clips this rank holds pieces of."""
    return 1 if cu_seqlens is None else len(cu_seqlens) - 1


def _start(
    scan: Callable[..., Scan],
    log_decay: Tensor,
    h0: Tensor | None,
    reverse: Sequence[bool],
    context: Context,
    clips: int,
) -> Tensor:
    """The state each of this rank's paths begins with, in the shape of its h0: a first scan, then one exchange."""
    h0 = _without_joined(h0, context, clips)
    ends = scan(h0=h0).h
    if clips > 1:  # the clip that a path leaves this rank in
        ends = torch.stack([ends[0 if way else -1, path] for path, way in enumerate(reverse)]).unsqueeze(0)
    return _reached(ends, torch.exp(log_decay), h0, reverse, context, clips)


def _without_joined(h0: Tensor | None, context: Context, clips: int) -> Tensor | None:
    """h0 with zeros for a clip that did not begin on this rank."""
    if h0 is None or not context.before:
        return h0
    return torch.zeros_like(h0) if clips == 1 else torch.cat([torch.zeros_like(h0[:1]), h0[1:]])


def _reached(
    ends: Tensor, decay: Tensor | None, h0: Tensor | None, reverse: Sequence[bool], context: Context, clips: int
) -> Tensor:
    """h0, and for the clip that goes on from another rank what reaches this one."""
    start = Carried.apply(ends, decay, reverse, context)
    if clips > 1:  # the clip that a path enters this rank in
        nothing = start.new_zeros(clips - 1, *start.shape[2:])
        columns = [
            torch.cat([nothing, start[:, path]] if way else [start[:, path], nothing])
            for path, way in enumerate(reverse)
        ]
        start = torch.stack(columns, dim=1)
    return start if h0 is None else h0 + start


def _last_inputs(x: Tensor, walks: Sequence[Walk], reverse: Sequence[bool], count: int, h0: Tensor | None) -> Tensor:
    """The `count` inputs each path has read when it leaves this rank, oldest first: (b, k, d, count)."""
    inputs = []
    for path, (walk, way) in enumerate(zip(walks, reverse)):
        stop = walk.lengths[0] if way and walk.lengths else walk.length
        held = min(count, stop if way or not walk.lengths else walk.lengths[-1])
        own = x if x.dim() == 3 else x[:, path]
        last = at_least_fp32(own[:, walk.rows()[stop - held : stop].long()]).mT
        if held < count and h0 is not None:
            last = torch.cat([h0[-len(last) :, path, :, held:], last], dim=-1)
        inputs.append(F.pad(last, (count - last.shape[-1], 0)))
    return torch.stack(inputs, dim=1)
