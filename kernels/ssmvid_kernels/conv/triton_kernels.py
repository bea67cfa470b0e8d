"""The convolution's two Triton kernels: a tile is some stripes of a path side by side, walked one step at a time.

Each stripe slides its window of inputs through registers, so a row is decoded and loaded once (and again by the few
steps two stripes share). The last programs of a row have no steps: they fill what stands before or after a clip.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..triton_walk import open_walk, row_of


@triton.jit
def sigmoid(v):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-v))."""
    return 1.0 / (1.0 + tl.exp(-v))


@triton.jit
def place(length, blocks, k, d, BLOCK_D: tl.constexpr):  # type: ignore[no-untyped-def]
    """Batch row, path, block of steps and channels (1, BLOCK_D) of this program, int64."""
    pid = tl.program_id(0).to(tl.int64)
    columns = tl.cdiv(d, BLOCK_D)
    channel = pid % columns * BLOCK_D + tl.arange(0, BLOCK_D)[None, :]
    pid = pid // columns
    return pid // blocks // k, pid // blocks % k, pid % blocks, channel


@triton.jit
def clip_at(step, batch, length, cu_seqlens, clip_of):  # type: ignore[no-untyped-def]
    """The clip each step lies in, its first step and its end."""
    clip, start, end = batch, tl.zeros((), tl.int64), tl.zeros((), tl.int64) + length
    if cu_seqlens is not None:
        clip = tl.load(clip_of + step, mask=(step >= 0) & (step < length), other=0).to(tl.int64)
        start, end = tl.load(cu_seqlens + clip).to(tl.int64), tl.load(cu_seqlens + clip + 1).to(tl.int64)
    return clip, start, end


@triton.jit
def edge_of_clip(index, batch, clips, length, cu_seqlens, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
    """Entry `index` of all clips' states, WIDTH - 1 a clip: the clip, its first step and end, which entry, if any."""
    clip, entry = index // (WIDTH - 1), index % (WIDTH - 1)
    inside = clip < clips
    clip = tl.where(inside, clip, 0)
    start, end = tl.zeros((), tl.int64), tl.zeros((), tl.int64) + length
    if cu_seqlens is None:
        clip = batch
    else:
        start = tl.load(cu_seqlens + clip, mask=inside, other=0).to(tl.int64)
        end = tl.load(cu_seqlens + clip + 1, mask=inside, other=0).to(tl.int64)
    return clip, start, end, entry, inside


@triton.jit
def load_at(ptr, stride, row, step, length, in_d, REAL: tl.constexpr):  # type: ignore[no-untyped-def]
    """`row`, that of `step` (rows, 1), zeros where there is no such step."""
    inside = (step >= 0) & (step < length) & in_d
    return tl.load(ptr + row.to(tl.int64) * stride, mask=inside, other=0.0).to(REAL)


@triton.jit
def load_row(ptr, stride, walk, step, length, in_d, REAL: tl.constexpr):  # type: ignore[no-untyped-def]
    """The rows that `step` (rows, 1) reads, zeros where there is no such step."""
    return load_at(ptr, stride, row_of(walk, step, length), step, length, in_d, REAL)


@triton.jit
def load_taps(  # type: ignore[no-untyped-def]
    w_ptr, w_stride, bias_ptr, bias_stride, path, channel, in_d, WIDTH: tl.constexpr, REAL: tl.constexpr
):
    """The weights (1, BLOCK_D) of a step's own input, of the one before it, ..., and the bias."""
    taps = ()
    for j in tl.static_range(WIDTH):
        at = path * w_stride[0] + channel * w_stride[1] + tl.cast(WIDTH - 1 - j, tl.int64) * w_stride[2]
        taps = taps + (tl.load(w_ptr + at, mask=in_d, other=0.0).to(REAL),)
    bias = tl.zeros(channel.shape, REAL)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + path * bias_stride[0] + channel * bias_stride[1], mask=in_d, other=0.0).to(REAL)
    return taps, bias


@triton.jit
def as_seen(x, step, start, clip, h0_ptr, h0_stride, in_d, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
    """x at `step`; where that lies before `start`, the clip's first step, what h0 holds of it, or zero."""
    past = tl.zeros(x.shape, x.dtype)
    if h0_ptr is not None:
        entry = step - start + (WIDTH - 1)
        held = (step < start) & (entry >= 0) & in_d
        past = tl.load(h0_ptr + clip * h0_stride[0] + entry * h0_stride[3], mask=held, other=0.0).to(x.dtype)
    return tl.where(step >= start, x, past)


@triton.jit
def window_as_seen(window, step, start, clip, h0_ptr, h0_stride, cu_seqlens, in_d):  # type: ignore[no-untyped-def]
    """`as_seen` for x at `step`, at the one before, ...; a whole row without h0 has zeros there already."""
    if cu_seqlens is None:
        if h0_ptr is None:
            return window
    seen = (window[0],)  # a step is never before its own clip
    for j in tl.static_range(1, len(window)):
        x = as_seen(window[j], step - j, start, clip, h0_ptr, h0_stride, in_d, len(window))
        seen = seen + (x,)
    return seen


@triton.jit
def convolve(seen, taps, bias):  # type: ignore[no-untyped-def]
    out = bias
    for j in tl.static_range(len(taps)):
        out += seen[j] * taps[j]
    return out


@triton.jit
def before_activation(dy, seen, taps, bias, SILU: tl.constexpr):  # type: ignore[no-untyped-def]
    """The gradient of the sum that goes into the activation."""
    if SILU:
        v = convolve(seen, taps, bias)
        s = sigmoid(v)
        dy *= s + v * s * (1.0 - s)
    return dy


@triton.jit
def push(window, newest):  # type: ignore[no-untyped-def]
    """`newest` before a window, whose last falls out."""
    moved = (newest,)
    for j in tl.static_range(len(window) - 1):
        moved = moved + (window[j],)
    return moved


@triton.jit
def slide(window, oldest):  # type: ignore[no-untyped-def]
    """`oldest` behind a window, whose first falls out."""
    moved = ()
    for j in tl.static_range(1, len(window)):
        moved = moved + (window[j],)
    return moved + (oldest,)


@triton.jit(do_not_specialize=["length", "clips", "blocks", "steps"])
def conv_forward(  # type: ignore[no-untyped-def]
    x_ptr, w_ptr, bias_ptr, h0_ptr, paths, cu_seqlens, clip_of, y_ptr, h_ptr,
    x_stride, w_stride, bias_stride, h0_stride,
    length, clips, blocks, steps, k, d,
    REAL: tl.constexpr, SILU: tl.constexpr, WIDTH: tl.constexpr,
    STRIPES: tl.constexpr, BLOCK_D: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Pointers are None where the argument is absent; strides are tuples, in the order of its axes; y, h are dense."""
    batch, path, block, channel = place(length, blocks, k, d, BLOCK_D)
    in_d = channel < d
    walk = open_walk(paths, path, length)
    taps, bias = load_taps(w_ptr, w_stride, bias_ptr, bias_stride, path, channel, in_d, WIDTH, REAL)
    x_ptr += batch * x_stride[0] + path * x_stride[1] + channel * x_stride[3]
    if h0_ptr is not None:
        h0_ptr += path * h0_stride[1] + channel * h0_stride[2]
    y_ptr += (batch * k + path) * length * d + channel
    stripe = tl.arange(0, STRIPES)[:, None]

    if block * (STRIPES * steps) < length:
        first = block * (STRIPES * steps) + stripe * steps
        window = ()
        for j in tl.static_range(WIDTH):
            window = window + (load_row(x_ptr, x_stride[2], walk, first - 1 - j, length, in_d, REAL),)
        for part in tl.range(0, steps // AHEAD):
            begin = first + part * AHEAD
            loads = ()  # of all steps before the arithmetic of any, so that their latencies overlap
            for i in tl.static_range(AHEAD):
                loads = loads + (load_row(x_ptr, x_stride[2], walk, begin + i, length, in_d, REAL),)
            for i in tl.static_range(AHEAD):
                step = begin + i
                window = push(window, loads[i])
                clip, start, _ = clip_at(step, batch, length, cu_seqlens, clip_of)
                y = convolve(window_as_seen(window, step, start, clip, h0_ptr, h0_stride, cu_seqlens, in_d), taps, bias)
                if SILU:
                    y *= sigmoid(y)
                at = y_ptr + row_of(walk, step, length) * d
                tl.store(at, y.to(y_ptr.dtype.element_ty), mask=(step < length) & in_d)
    else:
        index = (block - tl.cdiv(length, STRIPES * steps)) * STRIPES + stripe
        clip, start, end, entry, inside = edge_of_clip(index, batch, clips, length, cu_seqlens, WIDTH)
        step = end - (WIDTH - 1) + entry
        x = load_row(x_ptr, x_stride[2], walk, step, length, in_d, REAL)
        x = as_seen(x, step, start, clip, h0_ptr, h0_stride, in_d, WIDTH)
        tl.store(h_ptr + ((clip * k + path) * d + channel) * (WIDTH - 1) + entry, x, mask=inside & in_d)


@triton.jit
def dh0_of(  # type: ignore[no-untyped-def]
    clip, start, end, entry, x_ptr, x_stride, dy_ptr, dy_stride, h0_ptr, h0_stride,
    walk, taps, bias, length, in_d, REAL: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """The gradient of the inputs before a clip: what its first steps read of them, each computed again."""
    width: tl.constexpr = len(taps)
    inputs = ()  # all that those steps read, from the oldest on
    for i in tl.static_range(2 * width - 2):
        step = start + entry + (i + 3 - 2 * width)
        x = load_row(x_ptr, x_stride[2], walk, step, length, in_d, REAL)
        inputs = inputs + (as_seen(x, step, start, clip, h0_ptr, h0_stride, in_d, width),)
    dpast = tl.zeros(bias.shape, REAL)
    for j in tl.static_range(1, width):
        step = start + entry + (j + 1 - width)
        seen = ()
        for i in tl.static_range(width):
            seen = seen + (inputs[width - 2 + j - i],)
        dy = load_row(dy_ptr, dy_stride[2], walk, step, length, in_d, REAL)
        g = before_activation(dy, seen, taps, bias, SILU)
        dpast += tl.where((step >= start) & (step < end), g, 0.0) * taps[j]
    return dpast


@triton.jit(do_not_specialize=["length", "clips", "blocks", "steps"])
def conv_backward(  # type: ignore[no-untyped-def]
    dy_ptr, dh_ptr, x_ptr, w_ptr, bias_ptr, h0_ptr, paths, cu_seqlens, clip_of,
    dx_ptr, dw_ptr, dbias_ptr, dh0_ptr,
    dy_stride, dh_stride, x_stride, w_stride, bias_stride, h0_stride,
    length, clips, blocks, steps, k, d,
    REAL: tl.constexpr, SILU: tl.constexpr, WIDTH: tl.constexpr,
    STRIPES: tl.constexpr, BLOCK_D: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Outputs are dense: dx (b, k, l, d), dh0 (s, k, d, WIDTH - 1); dw (b, blocks of steps, k, d, WIDTH), dbias so."""
    batch, path, block, channel = place(length, blocks, k, d, BLOCK_D)
    in_d = channel < d
    walk = open_walk(paths, path, length)
    taps, bias = load_taps(w_ptr, w_stride, bias_ptr, bias_stride, path, channel, in_d, WIDTH, REAL)
    x_ptr += batch * x_stride[0] + path * x_stride[1] + channel * x_stride[3]
    dy_ptr += batch * dy_stride[0] + path * dy_stride[1] + channel * dy_stride[3]
    if dh_ptr is not None:
        dh_ptr += path * dh_stride[1] + channel * dh_stride[2]
    if h0_ptr is not None:
        h0_ptr += path * h0_stride[1] + channel * h0_stride[2]
    dx_ptr += (batch * k + path) * length * d + channel
    stripe = tl.arange(0, STRIPES)[:, None]
    busy = tl.cdiv(length, STRIPES * steps)  # blocks that have steps

    if block < busy:
        first = block * (STRIPES * steps) + stripe * steps
        window, rows, later, dtaps = (), (), (), ()
        for j in tl.static_range(WIDTH):  # the gradients of a stripe's last steps need those of the steps after it
            step = first + steps + AHEAD - j
            row = row_of(walk, step, length).to(tl.int32)
            x = load_at(x_ptr, x_stride[2], row, step, length, in_d, REAL)
            window, rows = window + (x,), rows + (row,)
            dtaps = dtaps + (tl.zeros(x.shape, REAL),)
        for _ in tl.static_range(WIDTH - 1):
            later = later + (tl.zeros(window[0].shape, REAL),)
        dbias = tl.zeros(window[0].shape, REAL)
        for part in tl.range(0, steps // AHEAD + 1):
            begin = first + steps - part * AHEAD
            loads = ()
            for i in tl.static_range(AHEAD):
                step = begin + (AHEAD - 1 - i)
                row = row_of(walk, step - (WIDTH - 1), length).to(tl.int32)
                rows = slide(rows, row)  # the row of `step` was decoded WIDTH - 1 steps ago
                oldest = load_at(x_ptr, x_stride[2], row, step - (WIDTH - 1), length, in_d, REAL)
                dy = load_at(dy_ptr, dy_stride[2], rows[0], step, length, in_d, REAL)
                loads = loads + ((oldest, dy, rows[0]),)
            for i in tl.static_range(AHEAD):
                step = begin + (AHEAD - 1 - i)
                oldest, dy, row = loads[i]
                window = slide(window, oldest)
                clip, start, end = clip_at(step, batch, length, cu_seqlens, clip_of)
                seen = window_as_seen(window, step, start, clip, h0_ptr, h0_stride, cu_seqlens, in_d)
                g = tl.where(step < length, before_activation(dy, seen, taps, bias, SILU), 0.0)
                dx = g * taps[0]
                for j in tl.static_range(1, WIDTH):
                    dx += tl.where(step + j < end, later[j - 1], 0.0) * taps[j]
                own = tl.where(part > 0, g, 0.0)
                dbias += own
                sums = ()
                for j in tl.static_range(WIDTH):
                    sums = sums + (dtaps[j] + own * seen[j],)
                dtaps = sums
                if dh_ptr is not None:
                    entry = step - end + (WIDTH - 1)
                    at = dh_ptr + clip * dh_stride[0] + entry * dh_stride[3]
                    dx += tl.load(at, mask=(entry >= 0) & (step < length) & in_d, other=0.0).to(REAL)
                at = dx_ptr + row.to(tl.int64) * d
                tl.store(at, dx.to(dx_ptr.dtype.element_ty), mask=(step < length) & (part > 0) & in_d)
                later = push(later, g)
        at = ((batch * busy + block) * k + path) * d + channel
        tl.store(dbias_ptr + at, tl.sum(dbias, axis=0, keep_dims=True), mask=in_d)
        for j in tl.static_range(WIDTH):
            dtap = tl.sum(dtaps[j], axis=0, keep_dims=True)
            tl.store(dw_ptr + at * WIDTH + (WIDTH - 1 - j), dtap, mask=in_d)
    else:
        index = (block - busy) * STRIPES + stripe
        clip, start, end, entry, inside = edge_of_clip(index, batch, clips, length, cu_seqlens, WIDTH)
        dpast = dh0_of(
            clip, start, end, entry, x_ptr, x_stride, dy_ptr, dy_stride, h0_ptr, h0_stride,
            walk, taps, bias, length, in_d, REAL, SILU,
        )  # fmt: skip
        if dh_ptr is not None:  # a clip shorter than the state leaves some of h0 in h
            left = entry - (end - start)
            kept = dh_ptr + clip * dh_stride[0] + left * dh_stride[3]
            dpast += tl.load(kept, mask=inside & (left >= 0) & in_d, other=0.0).to(REAL)
        tl.store(dh0_ptr + ((clip * k + path) * d + channel) * (WIDTH - 1) + entry, dpast, mask=inside & in_d)
