"""Matmuls and transposes of small matrices that lie in one scratch array, padded to whole vectors."""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .simd import Vector, _call, _constant, _splat, _suffix

Array = Any
# The sums of a tile, a row of its right factor and a number of its left must fit the registers: AVX-512 has 32 of a
# whole vector, the others the room of 8. Tiles of 4 vectors are 4 rows high; of 2 and of 1 this many:
MANY = bool(llvm.get_host_cpu_features().get("avx512f"))
TALL, TALLEST = (8, 8) if MANY else (2, 4)


@intrinsic(prefer_literal=True)
def _tile(typingctx: Any, rows: Any, vectors: Any, s: Any, a: Any, b: Any, steps: Any, c: Any, beta: Any) -> Any:
    """`matmul` for `rows` rows and `vectors` vectors, both literals, whose sums stay in registers."""
    kind = Vector(s.dtype)
    cells = [(i, v) for i in range(rows.literal_value) for v in range(vectors.literal_value)]

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        array, steps, beta = args[2], args[5], args[7]
        (a, a_row, a_step), (b, b_row), (c, c_row) = (cgutils.unpack_tuple(builder, args[i]) for i in (3, 4, 6))
        vector = context.get_value_type(kind)
        number = ir.IntType(64)
        data = context.make_array(signature.args[2])(context, builder, array).data
        at = lambda offset: builder.gep(data, [offset])
        wide = lambda offset, v: builder.bitcast(
            at(builder.add(offset, ir.Constant(number, v * kind.lanes))), vector.as_pointer()
        )
        below = lambda offset, row, i: builder.add(offset, builder.mul(row, ir.Constant(number, i)))
        align = s.dtype.bitwidth // 8
        sums = {cell: cgutils.alloca_once(builder, vector) for cell in cells}
        nothing = builder.fcmp_ordered("==", beta, ir.Constant(vector.element, 0.0))
        with builder.if_else(nothing) as (overwrite, add_to):
            with overwrite:
                for cell in cells:
                    builder.store(_constant(vector, 0.0), sums[cell])
            with add_to:
                scale = _splat(builder, vector, beta)
                for i, v in cells:
                    before = builder.load(wide(below(c, c_row, i), v), align=align)
                    builder.store(builder.fmul(before, scale), sums[i, v])
        with cgutils.for_range(builder, steps) as loop:
            row, first = (builder.add(x, builder.mul(step, loop.index)) for x, step in ((b, b_row), (a, a_step)))
            right = {v: builder.load(wide(row, v), align=align) for i, v in cells if not i}
            left = {i: _splat(builder, vector, builder.load(at(below(first, a_row, i)))) for i, v in cells if not v}
            for i, v in cells:
                factors = [left[i], right[v], builder.load(sums[i, v])]
                builder.store(_call(builder, f"llvm.fmuladd.{_suffix(vector)}", vector, factors), sums[i, v])
        for i, v in cells:
            builder.store(builder.load(sums[i, v]), wide(below(c, c_row, i), v), align=align)
        return context.get_dummy_value()

    pair, triple = (types.UniTuple(types.int64, count) for count in (2, 3))
    return types.void(rows, vectors, s, triple, pair, types.int64, pair, s.dtype), codegen


@njit(cache=True, boundscheck=False)
def matmul(
    s: Array,
    rows: int,
    vectors: int,
    a: tuple[int, int, int],
    b: tuple[int, int],
    steps: int,
    c: tuple[int, int],
    beta: float,
    lanes: int,
) -> None:
    """c = beta c + a b, all in the scratch `s`; what c holds is not read where beta is 0.

    a (rows, steps) as where it starts, and numbers from row to row and from column to column; b (steps, vectors) and
    c (rows, vectors) as where they start, and numbers from row to row. `rows` is a multiple of 8.
    """
    v = 0
    while v < vectors:
        right, out = (b[0] + v * lanes, b[1]), (c[0] + v * lanes, c[1])
        if MANY and vectors - v >= 4:
            for i in range(0, rows, 4):
                _tile(4, 4, s, (a[0] + i * a[1], a[1], a[2]), right, steps, (out[0] + i * out[1], out[1]), beta)
            v += 4
        elif vectors - v >= 2:
            for i in range(0, rows, TALL):
                _tile(TALL, 2, s, (a[0] + i * a[1], a[1], a[2]), right, steps, (out[0] + i * out[1], out[1]), beta)
            v += 2
        else:
            for i in range(0, rows, TALLEST):
                _tile(TALLEST, 1, s, (a[0] + i * a[1], a[1], a[2]), right, steps, (out[0] + i * out[1], out[1]), beta)
            v += 1


@intrinsic
def transpose_block(typingctx: Any, s: Any, a: Any, a_row: Any, c: Any, c_row: Any) -> Any:
    """A square of as many rows as a vector has lanes, from `s[a:]` to `s[c:]`."""
    kind = Vector(s.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        array, a, a_row, c, c_row = args
        vector, n, number = context.get_value_type(kind), kind.lanes, ir.IntType(64)
        data = context.make_array(signature.args[0])(context, builder, array).data
        align = s.dtype.bitwidth // 8

        def row(at: ir.Value, step: ir.Value, i: int) -> ir.Value:
            offset = builder.add(at, builder.mul(step, ir.Constant(number, i)))
            return builder.bitcast(builder.gep(data, [offset]), vector.as_pointer())

        def zip_(x: ir.Value, y: ir.Value, start: int) -> ir.Value:
            order = [start + lane // 2 + n * (lane % 2) for lane in range(n)]
            return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), n), order))

        rows = [builder.load(row(a, a_row, i), align=align) for i in range(n)]
        for _ in range(n.bit_length() - 1):
            pairs = list(zip(rows[: n // 2], rows[n // 2 :]))
            rows = [zip_(x, y, start) for x, y in pairs for start in (0, n // 2)]
        for i, value in enumerate(rows):
            builder.store(value, row(c, c_row, i), align=align)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(s, i64, i64, i64, i64), codegen
