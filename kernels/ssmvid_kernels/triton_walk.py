"""Device functions every Triton kernel over walks shares: which steps a program takes, and which row a step reads.

Import it where a kernel is about to run, never at the top of a module that must import without triton.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def open_clip(cu_seqlens, sequence, length):  # type: ignore[no-untyped-def]
    """Batch row, first step and end of a sequence: a whole row, or one clip of row 0."""
    batch, start, end = sequence, tl.zeros((), tl.int64), tl.zeros((), tl.int64) + length
    if cu_seqlens is not None:
        batch = tl.zeros((), tl.int64)
        start = tl.load(cu_seqlens + sequence).to(tl.int64)
        end = tl.load(cu_seqlens + sequence + 1).to(tl.int64)
    return batch, start, end


@triton.jit
def open_walk(paths, path, length):  # type: ignore[no-untyped-def]
    """What `row_of` needs of one path: nothing, the fields of an affine walk, or where its table lies."""
    walk = None
    if paths is not None:
        if paths.dtype.element_ty == tl.int32:
            walk = (paths + path * length,)
        else:
            at = paths + path * 8
            walk = (
                tl.maximum(tl.load(at + 1).to(tl.int32), 1),  # sizes of the two faster axes; l implies the slowest
                tl.maximum(tl.load(at + 2).to(tl.int32), 1),
                tl.load(at + 3),  # strides
                tl.load(at + 4),
                tl.load(at + 5),
                tl.load(at + 6) != 0,  # reverse
                tl.load(at + 7).to(tl.int32),  # prefix
            )
    return walk


@triton.jit
def row_of(walk, step, length):  # type: ignore[no-untyped-def]
    """The row (int64) that `step` of a path reads; any number where the step is not in 0 .. length - 1."""
    row = step.to(tl.int64)
    if walk is not None:
        if len(walk) == 1:
            inside = (step >= 0) & (step < length)
            row = tl.load(walk[0] + row, mask=inside, other=0).to(tl.int64)
        else:
            size1, size2, stride0, stride1, stride2, reverse, prefix = walk
            # 32 bits hold every step (tables are int32 too) and divide several times faster; only products need 64.
            step = step.to(tl.int32)
            step = tl.where(reverse, length - 1 - step, step)
            i = tl.maximum(step - prefix, 0)
            digit2, i = i % size2, i // size2
            digit1, digit0 = i % size1, i // size1
            grid = digit0 * stride0 + digit1 * stride1 + digit2 * stride2
            row = tl.where(step < prefix, step.to(tl.int64), grid + prefix)
    return row
