"""What every launch of one call shares: where its chunks lie, and the tiles its programs work on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import walk
from ..backends import interpreting

LONGEST = 256  # chunk: the squares of a longer one do not fit a program
PASS_BLOCK = 256  # elements of a state that a program passes over the chunks
STEP_BLOCK = 8  # heads whose steps a program makes
PROGRAMS = 512  # about as many as keep the largest GPU busy: dB and dC are summed over the heads in no more parts


class Tile(NamedTuple):
    """What a program works on where a factor of its matmuls is no wider than `bytes`."""

    bytes: int
    chunk: int  # steps, where the caller does not say
    p: int
    n: int
    warps: int
    backward_warps: int


# Chosen by what the compiler reports: single paths spill nowhere on sm_80, sm_90, sm_100 and gfx942, in the 64 kB of
# shared memory that gfx942 has.
TILES = (Tile(2, 64, 64, 32, 8, 8), Tile(8, 32, 16, 32, 8, 16))

# A sum over the paths of a bundle takes registers too: of n less at a time, and nothing ahead of its turn.
BUNDLED_N = 16


def tile_of(factors: torch.dtype) -> Tile:
    """The tile for factors of this dtype."""
    return next(tile for tile in TILES if factors.itemsize <= tile.bytes)


def _warps(wanted: int) -> int:
    """No more than 512 threads: past them gfx942, whose warps are twice as wide, has too few registers for each."""
    if interpreting():
        return wanted
    from triton.runtime import driver

    return min(wanted, 512 // driver.active.get_current_target().warp_size)


class Plan(NamedTuple):
    """What all launches of a call share; a slot is where one chunk of one batch row or clip stands."""

    slots: int  # of a batch row
    total: int  # of all rows
    sequences: int
    sets: int  # bundles of paths that share their chunks, or paths
    borders: tuple[Tensor | None, int, int, int]  # of the chunks that pass: of clips, length, slots, chunk
    where: tuple[Tensor | None, ...]  # paths, chunks, cu_seqlens, clip_of: what finds a chunk's rows
    shared: tuple[Tensor | None, ...]  # places, bundles: what finds the rows of one path along another
    real: torch.dtype
    tile: Tile
    sizes: tuple[int, ...]  # length, slots, chunk, k, heads, groups, p, n
    limit: tuple[float, float]
    steps: dict[str, Any]  # how dt becomes a step
    options: dict[str, Any]  # dtypes and blocks
    stages: dict[str, int]  # of the loops of `chunk_outputs`, where they are not the compiler's

    def blocks(self, axis: str) -> int:
        """Tiles along p or n."""
        return -(-self.sizes["pn".index(axis) - 2] // self.options[f"BLOCK_{axis.upper()}"])


def plan(
    x: Tensor, dt: Tensor, B: Tensor, paths: Tensor | None, cu_seqlens: Tensor | None, bundles: Sequence[Tensor],
    dt_softplus: bool, dt_limit: Sequence[float] | None, chunk: int,
) -> Plan:  # fmt: skip
    """Chunks never cross the border of a clip; their list is made on the device, without waiting for it.

    Raises:
        ValueError: the chunk is longer than a program holds.
    """
    import triton.language as tl

    if chunk > LONGEST:
        raise ValueError(f"ssd_scan: chunk must be at most {LONGEST} on backend 'triton', got {chunk}: leave it out")
    (b, k, l, heads), p, (g, n) = dt.shape, x.shape[-1], B.shape[-2:]
    slots, count, clip_of, chunks, bounds, places = -(-l // chunk), k, None, None, None, None
    sequences = b if cu_seqlens is None else cu_seqlens.shape[0] - 1
    borders = (cu_seqlens, l, slots, chunk)
    if bundles:
        assert paths is not None
        chunks, bounds, *cu_chunks = bundles
        slots, count, places = chunks.shape[1], bounds.shape[0] - 1, walk.places(paths, l)
        borders = (cu_chunks[0] if cu_chunks else None, slots, slots, 1)
        cu_seqlens = None
    elif cu_seqlens is not None:
        slots = l // chunk + sequences  # as many as any borders may need: some stand empty
        clips = torch.arange(sequences, device=dt.device)
        first = torch.div(cu_seqlens[:-1], chunk, rounding_mode="floor") + clips
        clip_of = torch.searchsorted(first, torch.arange(slots, device=dt.device), right=True, out_int32=True) - 1
    real, tile = torch.promote_types(x.dtype, torch.float32), tile_of(x.dtype)
    tile = tile._replace(warps=_warps(tile.warps), backward_warps=_warps(tile.backward_warps))
    # The interpreter has no half-precision arithmetic to speak of.
    factors = real if interpreting() else x.dtype
    types = {torch.float64: tl.float64, torch.float32: tl.float32, torch.float16: tl.float16}
    steps = dict(SOFTPLUS=dt_softplus, LIMITED=dt_limit is not None)
    options = dict(
        REAL=types[real],
        DOT=types.get(factors, tl.bfloat16),
        BLOCK_Q=block(chunk, LONGEST),
        BLOCK_P=block(p, tile.p),
        BLOCK_N=block(n, BUNDLED_N if bundles else tile.n),
    )
    low, high = (0.0, 0.0) if dt_limit is None else dt_limit
    sizes = (l, slots, chunk, k, heads, g, p, n)
    where, shared = (paths, chunks, cu_seqlens, clip_of), (places, bounds)
    rows = (slots, b * slots, sequences, count, borders, where, shared)
    return Plan(*rows, real, tile, sizes, (low, high), steps, options, {"num_stages": 1} if bundles else {})


def block(size: int, most: int) -> int:
    """The tile that holds `size`: a power of 2, at least the 16 a matmul takes, at most `most`."""
    return min(max(1 << max(size - 1, 0).bit_length(), 16), most)
