"""States, or their gradients, passed from chunk to chunk."""

from __future__ import annotations

import triton
import triton.language as tl

from ..triton_walk import open_clip


@triton.jit
def open_sequence(sequence, cu_seqlens, length, slots, chunk):  # type: ignore[no-untyped-def]
    """First slot of a batch row or clip, and how many chunks it has."""
    _, start, end = open_clip(cu_seqlens, sequence, length)
    slot = sequence * slots
    if cu_seqlens is not None:
        slot = start // chunk + sequence
    return slot, tl.cdiv(end - start, chunk)


@triton.jit(do_not_specialize=["length", "slots", "chunk", "span", "start_stride"])
def pass_states(  # type: ignore[no-untyped-def]
    start_ptr, decay_ptr, states_ptr, end_ptr, total_ptr, before_ptr, across_ptr, cu_seqlens,
    start_stride, length, slots, chunk, span, groups, k, heads, p, n,
    FORWARD: tl.constexpr, STORE: tl.constexpr, REAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """h = decay h + what each chunk adds, one program a (sequence, group, path, head, block of p n).

    A group is `span` chunks. FORWARD: from the first to the last; else back. STORE: put in place of what each adds the
    h it met. `end`: h at the end; `total`: the product of the decays. `across` (slots, k, heads, blocks): the h met
    times `before`, the state before that chunk, decayed: one part a block.
    """
    pid = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(p * n, BLOCK)
    block, pid = pid % blocks, pid // blocks
    head, path, part = pid % heads, pid // heads % k, pid // heads // k
    group, sequence = part % groups, part // groups
    slot, count = open_sequence(sequence, cu_seqlens, length, slots, chunk)
    first, last = group * span, tl.minimum((group + 1) * span, count)
    element = block * BLOCK + tl.arange(0, BLOCK)
    inside = element < p * n
    h, total = tl.zeros((BLOCK,), REAL), tl.full((), 1.0, REAL)
    if start_ptr is not None:
        at = part * start_stride[0] + path * start_stride[1] + head * start_stride[2]
        at += element // n * start_stride[3] + element % n * start_stride[4]
        h = tl.load(start_ptr + at, mask=inside, other=0.0).to(REAL)
    for j in tl.range(first, last):
        chunk_id = ((slot + (j if FORWARD else first + last - 1 - j)) * k + path) * heads + head
        to = chunk_id * p * n + element
        new = tl.load(states_ptr + to, mask=inside, other=0.0)
        decay = tl.load(decay_ptr + chunk_id)
        if STORE:
            tl.store(states_ptr + to, h, mask=inside)
        if across_ptr is not None:
            before = tl.load(before_ptr + to, mask=inside, other=0.0)
            tl.store(across_ptr + chunk_id * blocks + block, decay * tl.sum(h * before, axis=0))
        h = decay * h + new
        total *= decay
    if end_ptr is not None:
        tl.store(end_ptr + pid * p * n + element, h, mask=inside)
    if total_ptr is not None:
        tl.store(total_ptr + pid, total, mask=block == 0)
