"""Vectors for numba: a fixed number of lanes as one LLVM value, so that the CPU kernels vectorise by construction.

A `Vector` holds 16 float32 or 8 float64: one AVX-512 register, two of AVX2, four of NEON. LLVM splits it for the
machine at hand, so the same source runs on any CPU. Loads and stores take how many lanes are real: the others read
as zero and are not written.

Numba's cache on disk looks at a kernel's own file: after a change here, touch every `cpu_*.py` or delete `__pycache__`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = {np.dtype(np.float32): 16, np.dtype(np.float64): 8}


class Vector(types.Type):
    """Numba's type of `LANES[lane]` values of the float type `lane`."""

    def __init__(self, lane: types.Float) -> None:
        self.lane = lane
        self.lanes = 512 // lane.bitwidth
        super().__init__(name=f"Vector({lane}x{self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        lane = ir.FloatType() if fe_type.lane.bitwidth == 32 else ir.DoubleType()
        super().__init__(dmm, fe_type, ir.VectorType(lane, fe_type.lanes))


def _splat(builder: ir.IRBuilder, vector: ir.VectorType, value: ir.Value) -> ir.Value:
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def _constant(vector: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(vector, [value] * vector.count)


def _address(context: Any, builder: ir.IRBuilder, array_type: Any, array: ir.Value, offset: ir.Value) -> ir.Value:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def _suffix(vector: ir.VectorType) -> str:
    return f"v{vector.count}f{32 if vector.element == ir.FloatType() else 64}"


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, args: list[ir.Value]) -> ir.Value:
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [arg.type for arg in args]), name)
    return builder.call(function, args)


def _mask(builder: ir.IRBuilder, lanes: int, count: ir.Value) -> ir.Value:
    index = ir.VectorType(ir.IntType(64), lanes)
    return builder.icmp_signed("<", ir.Constant(index, list(range(lanes))), _splat(builder, index, count))


def _masked_load(
    builder: ir.IRBuilder, vector: ir.VectorType, address: ir.Value, count: ir.Value, align: int
) -> ir.Value:
    address = builder.bitcast(address, vector.as_pointer())
    mask = _mask(builder, vector.count, count)
    args = [address, ir.Constant(ir.IntType(32), align), mask, _constant(vector, 0.0)]
    return _call(builder, f"llvm.masked.load.{_suffix(vector)}.p0", vector, args)


@intrinsic
def load(typingctx: Any, array: Any, offset: Any, count: Any) -> Any:
    """The lanes at `array[offset:offset + count]`, zeros after them."""
    result = Vector(array.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        vector = context.get_value_type(result)
        address = _address(context, builder, signature.args[0], args[0], args[1])
        return _masked_load(builder, vector, address, args[2], array.dtype.bitwidth // 8)

    return result(array, types.int64, types.int64), codegen


@intrinsic
def load_either(typingctx: Any, first: Any, array: Any, offset: Any, other: Any, other_offset: Any, count: Any) -> Any:
    """`load(array, offset, count)` where `first` holds, else `load(other, other_offset, count)`, without a branch.

    A function that took the arrays would count references to them at every call.
    """
    result = Vector(array.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        vector = context.get_value_type(result)
        address = _address(context, builder, signature.args[1], args[1], args[2])
        other_address = _address(context, builder, signature.args[3], args[3], args[4])
        chosen = builder.select(args[0], address, other_address)
        return _masked_load(builder, vector, chosen, args[5], array.dtype.bitwidth // 8)

    return result(types.boolean, array, types.int64, array, types.int64, types.int64), codegen


@intrinsic
def store(typingctx: Any, array: Any, offset: Any, count: Any, value: Any) -> Any:
    """`array[offset:offset + count] = value`, the other lanes left alone."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        vector = context.get_value_type(value)
        address = _address(context, builder, signature.args[0], args[0], args[1])
        address, align = builder.bitcast(address, vector.as_pointer()), array.dtype.bitwidth // 8
        all_lanes = builder.icmp_signed(">=", args[2], ir.Constant(args[2].type, value.lanes))
        with builder.if_else(all_lanes, likely=True) as (full, part):  # Zen 3 takes several times as long with a mask
            with full:
                builder.store(args[3], address, align=align)
            with part:
                mask = _mask(builder, value.lanes, args[2])
                name = f"llvm.masked.store.{_suffix(vector)}.p0"
                _call(builder, name, ir.VoidType(), [args[3], address, ir.Constant(ir.IntType(32), align), mask])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, value), codegen


@intrinsic
def load_full(typingctx: Any, array: Any, offset: Any) -> Any:
    """All lanes at `array[offset:]`."""
    result = Vector(array.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        vector = context.get_value_type(result)
        address = _address(context, builder, signature.args[0], *args)
        return builder.load(builder.bitcast(address, vector.as_pointer()), align=array.dtype.bitwidth // 8)

    return result(array, types.int64), codegen


@intrinsic
def store_full(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """`array[offset:offset + lanes] = value`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        vector = context.get_value_type(value)
        address = _address(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], builder.bitcast(address, vector.as_pointer()), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, value), codegen


@intrinsic
def prefetch(typingctx: Any, array: Any, offset: Any) -> Any:
    """Have the cache line of `array[offset]` brought to the second-level cache; nothing waits for it."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        address = _address(context, builder, signature.args[0], *args)
        flags = [ir.Constant(ir.IntType(32), flag) for flag in (0, 2, 1)]  # a read, to level 2, of data
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), [address, *flags])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


@intrinsic
def splat(typingctx: Any, value: Any) -> Any:
    """The scalar in every lane."""
    result = Vector(value)
    return result(value), lambda context, builder, signature, args: _splat(
        builder, context.get_value_type(result), args[0]
    )


@intrinsic
def fill(typingctx: Any, like: Any, value: Any) -> Any:
    """The number `value` in every lane of a vector such as `like`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        lane = context.cast(builder, args[1], types.float64, like.lane)
        return _splat(builder, context.get_value_type(like), lane)

    return like(like, types.float64), codegen


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """`a * b + c`, in one rounding where the CPU can."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        vector = context.get_value_type(a)
        return _call(builder, f"llvm.fmuladd.{_suffix(vector)}", vector, list(args))

    return a(a, b, c), codegen


@intrinsic
def add(typingctx: Any, a: Any, b: Any) -> Any:
    """`a + b`."""
    return a(a, b), lambda context, builder, signature, args: builder.fadd(*args)


@intrinsic
def sub(typingctx: Any, a: Any, b: Any) -> Any:
    """`a - b`."""
    return a(a, b), lambda context, builder, signature, args: builder.fsub(*args)


@intrinsic
def mul(typingctx: Any, a: Any, b: Any) -> Any:
    """`a * b`."""
    return a(a, b), lambda context, builder, signature, args: builder.fmul(*args)


@intrinsic
def div(typingctx: Any, a: Any, b: Any) -> Any:
    """`a / b`."""
    return a(a, b), lambda context, builder, signature, args: builder.fdiv(*args)


@intrinsic
def positive(typingctx: Any, a: Any) -> Any:
    """`max(a, 0)`, NaN kept."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        zero = _constant(context.get_value_type(a), 0.0)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), zero, args[0])

    return a(a), codegen


@intrinsic
def minus_abs(typingctx: Any, a: Any) -> Any:
    """`-|a|`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        vector = context.get_value_type(a)
        return builder.fneg(_call(builder, f"llvm.fabs.{_suffix(vector)}", vector, list(args)))

    return a(a), codegen


def _part(builder: ir.IRBuilder, value: ir.Value, start: int, width: int) -> ir.Value:
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(start, start + width)))
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), lanes)


@intrinsic
def total(typingctx: Any, a: Any) -> Any:
    """The sum of all lanes."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, width = args[0], a.lanes
        while width > 1:  # fold the halves, so that the order of the additions is fixed
            width //= 2
            value = builder.fadd(_part(builder, value, 0, width), _part(builder, value, width, width))
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return a.lane(a), codegen


def _exp2_coefficients() -> list[float]:
    """2^f on [-1/2, 1/2] at Chebyshev's nodes, degree 6, highest first: 3e-9 off, far under float32's rounding."""
    nodes = np.cos((np.arange(7) + 0.5) * np.pi / 7) / 2
    fit = np.polynomial.Polynomial.fit(nodes, np.exp2(nodes), 6, domain=[-1, 1], window=[-1, 1])
    return [float(np.float32(c)) for c in fit.coef[::-1]]


_EXP2 = _exp2_coefficients()


@intrinsic
def exp2(typingctx: Any, a: Any) -> Any:
    """2^a. float32: arguments are held to [-126, 127], so it never over- or underflows; NaN stays NaN."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        vector = context.get_value_type(a)
        if a.lane.bitwidth == 64:  # libm, lane by lane: float64 is for checking, not for speed
            return _call(builder, f"llvm.exp2.{_suffix(vector)}", vector, list(args))
        bits = ir.VectorType(ir.IntType(32), vector.count)
        constant = lambda value: _constant(vector, value)
        x = args[0]
        x = builder.select(builder.fcmp_ordered("<", x, constant(-126.0)), constant(-126.0), x)
        x = builder.select(builder.fcmp_ordered(">", x, constant(127.0)), constant(127.0), x)
        magic = constant(1.5 * 2.0**23)  # x + magic has round(x) in its low bits
        shifted = builder.fadd(x, magic)
        f = builder.fsub(x, builder.fsub(shifted, magic))
        p = constant(_EXP2[0])
        for c in _EXP2[1:]:
            p = _call(builder, f"llvm.fmuladd.{_suffix(vector)}", vector, [p, f, constant(c)])
        exponent = builder.shl(builder.bitcast(shifted, bits), ir.Constant(bits, [23] * vector.count))
        return builder.bitcast(builder.add(builder.bitcast(p, bits), exponent), vector)

    return a(a), codegen


LOG2E = 1.4426950408889634


@njit(inline="always")
def sigmoid(v: Any) -> Any:
    """1 / (1 + exp(-v))."""
    one = fill(v, 1.0)
    return div(one, add(one, exp2(mul(v, fill(v, -LOG2E)))))


@intrinsic
def log1p(typingctx: Any, u: Any) -> Any:
    """log(1 + u) for u in [0, 1], as 2 atanh(s) with s = u / (2 + u) <= 1/3: a series that ends at the rounding."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        vector = context.get_value_type(u)
        constant = lambda value: _constant(vector, value)
        terms = 8 if u.lane.bitwidth == 32 else 17
        s = builder.fdiv(args[0], builder.fadd(args[0], constant(2.0)))
        square, p = builder.fmul(s, s), constant(2.0 / (2 * terms - 1))
        for i in reversed(range(terms - 1)):
            coefficient = constant(2.0 / (2 * i + 1))
            p = _call(builder, f"llvm.fmuladd.{_suffix(vector)}", vector, [p, square, coefficient])
        return builder.fmul(s, p)

    return u(u), codegen


@intrinsic
def keep(typingctx: Any, a: Any, first: Any, last: Any) -> Any:
    """The lanes `first` to `last - 1` of a, zeros in the others."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, first, last = args
        too_early, early_enough = _mask(builder, a.lanes, first), _mask(builder, a.lanes, last)
        inside = builder.and_(builder.not_(too_early), early_enough)
        return builder.select(inside, value, _constant(value.type, 0.0))

    return a(a, types.int64, types.int64), codegen


@intrinsic
def where_above(typingctx: Any, a: Any, limit: Any, value: Any) -> Any:
    """The lanes of `value` where a > limit, zeros in the others."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        vector = context.get_value_type(a)
        bound = _splat(builder, vector, context.cast(builder, args[1], types.float64, a.lane))
        return builder.select(builder.fcmp_ordered(">", args[0], bound), args[2], _constant(vector, 0.0))

    return a(a, types.float64, a), codegen
