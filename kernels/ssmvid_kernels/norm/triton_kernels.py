"""The norms' two Triton kernels: a tile is some rows of one group of channels.

The first BLOCK channels of a group stay in registers through all passes over it; where a group is wider, the loops over
`start` read the others once a pass.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def place(tile, rows, length, ROWS: tl.constexpr):  # type: ignore[no-untyped-def]
    """The rows (ROWS, 1) of a tile, the batch row and the token of each, int64, and which there are."""
    row = tile * ROWS + tl.arange(0, ROWS)[:, None].to(tl.int64)
    return row, row // length, row % length, row < rows


@triton.jit
def load_at(ptr, stride, batch, token, channel, inside, REAL: tl.constexpr):  # type: ignore[no-untyped-def]
    at = batch * stride[0] + token * stride[1] + channel * stride[2]
    return tl.load(ptr + at, mask=inside, other=0.0).to(REAL)


@triton.jit
def load_channels(ptr, stride, channel, in_group, absent, REAL: tl.constexpr):  # type: ignore[no-untyped-def]
    """A parameter (1, BLOCK), the number `absent` where there is none."""
    value = tl.full(channel.shape, absent, REAL)
    if ptr is not None:
        value = tl.load(ptr + channel * stride[0], mask=in_group, other=0.0).to(REAL)
    return value


@triton.jit
def load_gate(z_ptr, z_stride, batch, token, channel, inside, REAL: tl.constexpr):  # type: ignore[no-untyped-def]
    """silu(z) and its derivative; ones and zeros without a gate."""
    gate, slope = tl.full(inside.shape, 1.0, REAL), tl.zeros(inside.shape, REAL)
    if z_ptr is not None:
        z = load_at(z_ptr, z_stride, batch, token, channel, inside, REAL)
        s = 1.0 / (1.0 + tl.exp(-z))
        gate, slope = z * s, s + z * s * (1.0 - s)
    return gate, slope


@triton.jit
def merge(mean, squares, u, inside, before, size, CENTRED: tl.constexpr):  # type: ignore[no-untyped-def]
    """Take a block into the mean and the squares around it of the `before` channels so far (Chan et al. 1979)."""
    if CENTRED:
        seen = (tl.zeros((), u.dtype) + before).to(u.dtype)
        fresh = (tl.zeros((), u.dtype) + tl.minimum(size - before, u.shape[1])).to(u.dtype)
        own = tl.sum(u, axis=1, keep_dims=True) / fresh
        v = tl.where(inside, u - own, 0.0)
        step = own - mean
        mean += step * (fresh / (seen + fresh))
        squares += tl.sum(v * v, axis=1, keep_dims=True) + step * step * (seen * fresh / (seen + fresh))
    else:
        squares += tl.sum(u * u, axis=1, keep_dims=True)
    return mean, squares


@triton.jit
def load_summed(  # type: ignore[no-untyped-def]
    x_ptr, x_stride, residual_ptr, residual_stride, z_ptr, z_stride,
    batch, token, channel, inside, GATE_FIRST: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """x + residual, what is normed, and the gate."""
    s = load_at(x_ptr, x_stride, batch, token, channel, inside, REAL)
    if residual_ptr is not None:
        s += load_at(residual_ptr, residual_stride, batch, token, channel, inside, REAL)
    gate, slope = load_gate(z_ptr, z_stride, batch, token, channel, inside, REAL)
    u = s
    if GATE_FIRST:
        u = s * gate
    return s, u, gate, slope


@triton.jit
def store_normed(  # type: ignore[no-untyped-def]
    y_ptr, stream_ptr, w_ptr, w_stride, bias_ptr, bias_stride,
    s, u, gate, mean, scale, at, channel, in_group, inside, GATE_FIRST: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    w = load_channels(w_ptr, w_stride, channel, in_group, 1.0, REAL)
    y = (u - mean) * scale * w + load_channels(bias_ptr, bias_stride, channel, in_group, 0.0, REAL)
    if not GATE_FIRST:
        y *= gate
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)
    if stream_ptr is not None:
        tl.store(stream_ptr + at, s, mask=inside)


@triton.jit(do_not_specialize=["rows", "length", "groups"])
def norm_forward(  # type: ignore[no-untyped-def]
    x_ptr, residual_ptr, z_ptr, w_ptr, bias_ptr, stream_ptr, y_ptr,
    x_stride, residual_stride, z_stride, w_stride, bias_stride,
    rows, length, groups, size,
    REAL: tl.constexpr, GATE_FIRST: tl.constexpr, CENTRED: tl.constexpr, EPS: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Pointers are None where the argument is absent; strides are tuples, in the order of its axes; outputs are dense.

    Program i norms tile i // groups of the rows, group i % groups.
    """
    pid = tl.program_id(0).to(tl.int64)
    row, batch, token, there = place(pid // groups, rows, length, ROWS)
    base = pid % groups * size
    column = tl.arange(0, BLOCK)[None, :]
    inside = there & (column < size)
    s, u, gate, _ = load_summed(
        x_ptr, x_stride, residual_ptr, residual_stride, z_ptr, z_stride,
        batch, token, base + column, inside, GATE_FIRST, REAL,
    )  # fmt: skip
    mean, squares = merge(tl.zeros((ROWS, 1), REAL), tl.zeros((ROWS, 1), REAL), u, inside, 0, size, CENTRED)
    for start in tl.range(BLOCK, size, BLOCK):
        more = there & (start + column < size)
        _, u_more, _, _ = load_summed(
            x_ptr, x_stride, residual_ptr, residual_stride, z_ptr, z_stride,
            batch, token, base + start + column, more, GATE_FIRST, REAL,
        )  # fmt: skip
        mean, squares = merge(mean, squares, u_more, more, start, size, CENTRED)
    scale = 1.0 / tl.sqrt(squares / size + EPS)

    at = row * (groups * size) + base
    store_normed(
        y_ptr, stream_ptr, w_ptr, w_stride, bias_ptr, bias_stride,
        s, u, gate, mean, scale, at + column, base + column, column < size, inside, GATE_FIRST, REAL,
    )  # fmt: skip
    for start in tl.range(BLOCK, size, BLOCK):
        channel = start + column
        more = there & (channel < size)
        s, u, gate, _ = load_summed(
            x_ptr, x_stride, residual_ptr, residual_stride, z_ptr, z_stride,
            batch, token, base + channel, more, GATE_FIRST, REAL,
        )  # fmt: skip
        store_normed(
            y_ptr, stream_ptr, w_ptr, w_stride, bias_ptr, bias_stride,
            s, u, gate, mean, scale, at + channel, base + channel, channel < size, more, GATE_FIRST, REAL,
        )  # fmt: skip


@triton.jit
def grads_of(  # type: ignore[no-untyped-def]
    dy_ptr, dy_stride, w_ptr, w_stride, u, gate, mean, scale,
    batch, token, channel, in_group, inside, GATE_FIRST: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """dy, the gradient g of n * weight + bias, that of n, and n, what comes out of the norm."""
    n = tl.where(inside, (u - mean) * scale, 0.0)
    dy = load_at(dy_ptr, dy_stride, batch, token, channel, inside, REAL)
    g = dy
    if not GATE_FIRST:
        g = dy * gate
    return dy, g, g * load_channels(w_ptr, w_stride, channel, in_group, 1.0, REAL), n


@triton.jit
def store_grads(  # type: ignore[no-untyped-def]
    dx_ptr, dstream_ptr, dz_ptr, dsum_ptr, dsum_stride, w_ptr, w_stride, bias_ptr, bias_stride,
    s, gate, slope, dy, dn, n, along, across, scale,
    at, batch, token, channel, in_group, inside, GATE_FIRST: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    ds = scale * (dn - n * along - across)
    if dz_ptr is not None:
        if GATE_FIRST:
            dgate = ds * s
            ds *= gate
        else:
            w = load_channels(w_ptr, w_stride, channel, in_group, 1.0, REAL)
            dgate = dy * (n * w + load_channels(bias_ptr, bias_stride, channel, in_group, 0.0, REAL))
        tl.store(dz_ptr + at, (dgate * slope).to(dz_ptr.dtype.element_ty), mask=inside)
    if dsum_ptr is not None:
        ds += load_at(dsum_ptr, dsum_stride, batch, token, channel, inside, REAL)
    if dx_ptr is not None:
        tl.store(dx_ptr + at, ds.to(dx_ptr.dtype.element_ty), mask=inside)
    if dstream_ptr is not None:
        tl.store(dstream_ptr + at, ds, mask=inside)


@triton.jit
def add_part(ptr, at, value, again, in_group):  # type: ignore[no-untyped-def]
    """Add the sum of `value` over its rows to a program's own part in memory; what lies there counts only `again`."""
    if ptr is not None:
        old = tl.load(ptr + at, mask=in_group & again, other=0.0)
        tl.store(ptr + at, old + tl.sum(value, axis=0, keep_dims=True), mask=in_group)


@triton.jit(do_not_specialize=["rows", "length", "groups", "per_part"])
def norm_backward(  # type: ignore[no-untyped-def]
    dy_ptr, dsum_ptr, stream_ptr, z_ptr, w_ptr, bias_ptr, dx_ptr, dstream_ptr, dz_ptr, dw_ptr, dbias_ptr,
    dy_stride, dsum_stride, stream_stride, z_stride, w_stride, bias_stride,
    rows, length, groups, size, per_part,
    REAL: tl.constexpr, GATE_FIRST: tl.constexpr, CENTRED: tl.constexpr, EPS: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """As `norm_forward`; dw and dbias are (parts, d): program i sums per_part tiles, part i // groups."""
    pid = tl.program_id(0).to(tl.int64)
    part, base = pid // groups, pid % groups * size
    d = groups * size
    column = tl.arange(0, BLOCK)[None, :]
    in_group = column < size
    dw, dbias = tl.zeros((ROWS, BLOCK), REAL), tl.zeros((ROWS, BLOCK), REAL)
    for tile in tl.range(part * per_part, tl.minimum((part + 1) * per_part, tl.cdiv(rows, ROWS))):
        row, batch, token, there = place(tile, rows, length, ROWS)
        at = row * d + base
        inside = there & in_group
        s, u, gate, slope = load_summed(
            stream_ptr, stream_stride, None, None, z_ptr, z_stride,
            batch, token, base + column, inside, GATE_FIRST, REAL,
        )  # fmt: skip
        mean, squares = merge(tl.zeros((ROWS, 1), REAL), tl.zeros((ROWS, 1), REAL), u, inside, 0, size, CENTRED)
        for start in tl.range(BLOCK, size, BLOCK):
            more = there & (start + column < size)
            _, u_more, _, _ = load_summed(
                stream_ptr, stream_stride, None, None, z_ptr, z_stride,
                batch, token, base + start + column, more, GATE_FIRST, REAL,
            )  # fmt: skip
            mean, squares = merge(mean, squares, u_more, more, start, size, CENTRED)
        scale = 1.0 / tl.sqrt(squares / size + EPS)

        dy, g, dn, n = grads_of(
            dy_ptr, dy_stride, w_ptr, w_stride, u, gate, mean, scale,
            batch, token, base + column, in_group, inside, GATE_FIRST, REAL,
        )  # fmt: skip
        dw += g * n
        dbias += g
        along, across = tl.sum(dn * n, axis=1, keep_dims=True), tl.sum(dn, axis=1, keep_dims=True)
        for start in tl.range(BLOCK, size, BLOCK):
            channel = start + column
            more = there & (channel < size)
            _, u_more, gate_more, _ = load_summed(
                stream_ptr, stream_stride, None, None, z_ptr, z_stride,
                batch, token, base + channel, more, GATE_FIRST, REAL,
            )  # fmt: skip
            _, g, dn_more, n_more = grads_of(
                dy_ptr, dy_stride, w_ptr, w_stride, u_more, gate_more, mean, scale,
                batch, token, base + channel, channel < size, more, GATE_FIRST, REAL,
            )  # fmt: skip
            along += tl.sum(dn_more * n_more, axis=1, keep_dims=True)
            across += tl.sum(dn_more, axis=1, keep_dims=True)
            again = tile > part * per_part
            add_part(dw_ptr, part * d + base + channel, g * n_more, again, channel < size)
            add_part(dbias_ptr, part * d + base + channel, g, again, channel < size)
        tl.debug_barrier()  # the next tile reads those parts
        along /= size
        across = across / size if CENTRED else tl.zeros((ROWS, 1), REAL)

        store_grads(
            dx_ptr, dstream_ptr, dz_ptr, dsum_ptr, dsum_stride, w_ptr, w_stride, bias_ptr, bias_stride,
            s, gate, slope, dy, dn, n, along, across, scale,
            at + column, batch, token, base + column, in_group, inside, GATE_FIRST, REAL,
        )  # fmt: skip
        for start in tl.range(BLOCK, size, BLOCK):
            channel = start + column
            more = there & (channel < size)
            s_more, u_more, gate_more, slope_more = load_summed(
                stream_ptr, stream_stride, None, None, z_ptr, z_stride,
                batch, token, base + channel, more, GATE_FIRST, REAL,
            )  # fmt: skip
            dy_more, _, dn_more, n_more = grads_of(
                dy_ptr, dy_stride, w_ptr, w_stride, u_more, gate_more, mean, scale,
                batch, token, base + channel, channel < size, more, GATE_FIRST, REAL,
            )  # fmt: skip
            store_grads(
                dx_ptr, dstream_ptr, dz_ptr, dsum_ptr, dsum_stride, w_ptr, w_stride, bias_ptr, bias_stride,
                s_more, gate_more, slope_more, dy_more, dn_more, n_more, along, across, scale,
                at + channel, batch, token, base + channel, channel < size, more, GATE_FIRST, REAL,
            )  # fmt: skip
    at = part * d + base + column
    if dw_ptr is not None:
        tl.store(dw_ptr + at, tl.sum(dw, axis=0, keep_dims=True), mask=in_group)
    if dbias_ptr is not None:
        tl.store(dbias_ptr + at, tl.sum(dbias, axis=0, keep_dims=True), mask=in_group)
