"""Paths that share their chunks: which they are, and that the Triton kernels which take them together stay exact."""

from dataclasses import replace
from itertools import accumulate, product
from typing import NamedTuple

import pytest
import torch

from ssmvid_kernels import Walk, ssd_scan
from ssmvid_kernels.ssd import triton_scan
from ssmvid_kernels.ssd.bundles import bundle
from ssmvid_kernels.ssd.cases import Case, make_inputs
from ssmvid_kernels.testing import assert_op_as_exact, device_of, outputs_and_gradients, poisoned_empty
from tests.kernels.probe import record

GRID, BRICK = (2, 3, 3), (2, 2, 2)
PAIR = (Walk(GRID, (9, 3, 1)), Walk(GRID, (9, 3, 1), reverse=True))
OTHER = (Walk((3, 3, 2), (3, 1, 9)), Walk((3, 3, 2), (3, 1, 9), reverse=True))
CPU = torch.device("cpu")


def bricks(grid, axes, reverse=False, brick=BRICK):
    """Brick after brick in the order of `axes`, and so the tokens of each."""
    order = ["thw".index(axis) for axis in axes]
    rows = torch.arange(grid[0] * grid[1] * grid[2]).view(grid).permute(order)
    sizes = [brick[axis] for axis in order]
    starts = product(*(range(0, axis, size) for axis, size in zip(rows.shape, sizes)))
    found = [rows[tuple(slice(a, a + size) for a, size in zip(at, sizes))].flatten() for at in starts]
    path = torch.cat([*found, torch.empty(0, dtype=torch.int64)])
    lengths = tuple(map(len, found))
    return Walk(table=(path.flip(0) if reverse else path).int(), chunks=lengths[::-1] if reverse else lengths)


def packed(walks):
    starts = accumulate((walk.length for walk in walks), initial=0)
    table = torch.cat([walk.rows() + start for walk, start in zip(walks, starts)])
    chunks = None if any(walk.chunks is None for walk in walks) else tuple(size for w in walks for size in w.chunks)
    return Walk(table=table, lengths=tuple(walk.length for walk in walks), chunks=chunks)


CLIPS = ((2, 2, 3), (0, 1, 1), (1, 2, 2), (1, 1, 1))
PACKED = tuple(
    packed([bricks(grid, axes, back) for grid in CLIPS]) for axes in ("thw", "wht") for back in (False, True)
)
PACKED_PAIRS = tuple(replace(walk, chunks=None) for walk in PACKED)


class Bundled(NamedTuple):
    walks: tuple[Walk, ...]
    bundles: int
    chunk: int | None = None
    b: int = 1
    g: int = 1
    heads: int = 2


CASES = {
    "pair": Bundled(PAIR, 1, chunk=7, heads=6),  # dA is one number a head: few are a poor sample of its rounding
    "pair_prefix": Bundled(
        tuple(Walk((2, 2, 2), (4, 2, 1), reverse=back, prefix=3) for back in (True, False)), 1, chunk=4, b=2
    ),
    "twice": Bundled((PAIR[0],) * 2, 1, chunk=7),
    "pair_of_tables": Bundled(tuple(Walk(table=walk.rows()) for walk in OTHER), 1, chunk=18),
    "pair_and_one": Bundled((*PAIR, OTHER[0]), 2, chunk=7),
    "two_pairs": Bundled((PAIR[0], OTHER[1], PAIR[1], OTHER[0]), 2, chunk=7, g=2),
    "bricks": Bundled(tuple(bricks(GRID, axes, back) for axes in ("thw", "hwt", "wth") for back in (False, True)), 1),
    "bricks_and_pair": Bundled((PAIR[0], bricks(GRID, "thw"), PAIR[1], bricks(GRID, "wth")), 2, chunk=7),
    "packed_pairs": Bundled(PACKED_PAIRS, 2, chunk=5),
    "packed_bricks": Bundled(PACKED, 1),
}
SLOW = ("twice", "two_pairs", "bricks_and_pair", "packed_pairs")
each_case = pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name, case in CASES.items()],
)
pair_or_bricks = pytest.mark.parametrize("name", ["pair", pytest.param("bricks", marks=pytest.mark.slow)])


def call(case, dtype=torch.float32, **changed):
    """Tensors and options of a call along the walks of a case."""
    lengths = case.walks[0].lengths or ()
    sizes = Case(case.b, case.walks[0].length, case.heads, 3, 2, g=case.g, k=len(case.walks), clips=lengths)
    tensors = {name: t.detach().to(device_of("triton")) for name, t in make_inputs(sizes, dtype).items()}
    borders = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device_of("triton"))
    options = {"walks": case.walks, "cu_seqlens": borders if lengths else None, "chunk": case.chunk} | changed
    return {name: tensor.requires_grad_() for name, tensor in tensors.items()}, options | {"dt_softplus": True}


def assert_exact(case, dtype=torch.float32, without=(), **changed):
    tensors, options = call(case, dtype, **changed)
    with poisoned_empty():
        kept = {name: tensor for name, tensor in tensors.items() if name not in without}
        assert_op_as_exact(ssd_scan, kept, "triton", **options)


@each_case
def test_as_exact_as_the_reference(case):
    clips = len(case.walks[0].lengths or (0,))
    _, shared = bundle(case.walks, case.chunk or 64, clips, CPU, 256)
    assert len(shared[1]) == case.bundles + 1
    assert_exact(case)


@pair_or_bricks
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_every_dtype(dtype, name):
    assert_exact(CASES[name]._replace(heads=2), dtype)


@pytest.mark.parametrize("name", ["pair_and_one", "packed_bricks"])
def test_outputs_kept_apart(name):
    assert_exact(CASES[name], without=("z",), merge=None)


@pair_or_bricks
def test_skip_weight_a_channel_and_a_limit(name):
    case = CASES[name]._replace(heads=2)
    tensors, options = call(case, dt_limit=(0.5, 1.5), merge="mean")
    g = torch.Generator().manual_seed(2)
    tensors["D"] = torch.randn(len(case.walks), 2, 3, generator=g).to(tensors["x"].device).requires_grad_()
    assert_op_as_exact(ssd_scan, tensors, "triton", **options)


@pytest.mark.parametrize("name", ["pair", "packed_bricks"])
def test_chunks_that_pass_in_groups(name, monkeypatch):
    monkeypatch.setattr(triton_scan, "LONGEST_LOOP", 1)
    assert_exact(CASES[name])


def test_blocks_of_channels_and_states():
    case = Case(1, 18, 2, 33, 17, k=2, chunk=7)
    tensors = {name: tensor.detach().requires_grad_() for name, tensor in make_inputs(case).items()}
    assert_op_as_exact(ssd_scan, tensors, "triton", walks=PAIR, chunk=7, dt_softplus=True)


def launches(case, dtype=torch.bfloat16, **changed):
    """Each kernel that both passes start, by name."""
    tensors, options = call(case, dtype, **changed)
    found = record(lambda: outputs_and_gradients(ssd_scan, tensors, backend="triton", **options))
    return {launch.kernel.__name__: launch for launch in found}


def test_one_bundle_takes_every_path_in_one_program_and_stores_once():
    case = CASES["bricks"]
    started = launches(case)
    slots = 4  # bricks of 2 x 2 x 2 in 2 x 3 x 3
    for name, out in (("chunk_outputs", "y_ptr"), ("input_gradients", "dx_ptr")):
        launch = started[name]
        assert launch.programs == slots * 2  # heads
        assert launch.arguments[out].dtype == torch.bfloat16
        assert launch.arguments[out].numel() == 18 * 2 * 3


def test_paths_that_share_nothing_go_alone():
    apart = Bundled((PAIR[0], OTHER[0]), 2, chunk=7)
    started = launches(apart)
    assert "input_gradients" not in started
    assert started["chunk_outputs"].programs == 3 * 2 * 2  # slots, paths, heads
    assert started["chunk_outputs"].arguments["y_ptr"].dtype == torch.float32
    tensors, options = call(CASES["pair"])
    tensors["x"] = torch.stack([tensors["x"]] * 2, 1).detach().requires_grad_()
    assert_op_as_exact(ssd_scan, tensors, "triton", **options)


def test_a_compiled_call_shares_too():
    torch._dynamo.reset()
    for name in ("pair_of_tables", "bricks"):
        tensors, options = call(CASES[name])
        run = lambda options=options, **values: tuple(ssd_scan(**values, **options, backend="triton"))
        compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
        expected = outputs_and_gradients(run, tensors)
        torch.testing.assert_close(outputs_and_gradients(compiled, tensors), expected, rtol=0, atol=0)


def test_the_table_of_a_pair():
    chunk, (chunks, bounds) = bundle(PAIR, 7, 1, CPU, 256)
    assert (chunk, bounds.tolist()) == (7, [0, 2])
    assert chunks.tolist() == [
        [[0, 0, 0, 7], [0, 1, 7, 14], [0, 2, 14, 18]],
        [[1, 2, 11, 18], [1, 1, 4, 11], [1, 0, 0, 4]],
    ]


def test_the_table_of_packed_bricks_has_an_empty_slot_behind_each_clip():
    chunk, (chunks, bounds, cu_chunks) = bundle(PACKED[:3:2], 64, 4, CPU, 256)
    assert (chunk, bounds.tolist(), cu_chunks.tolist()) == (8, [0, 2], [0, 2, 2, 3, 4])
    forward = [[0, 0, 0, 8], [0, 1, 8, 12], [0, 2, 0, 0], [0, 3, 0, 0], [0, 4, 12, 16], [0, 5, 0, 0], [0, 6, 16, 17]]
    assert chunks[0].tolist() == [*forward, [0, 7, 0, 0]]
    assert chunks[1].tolist() == [[1, *where] for _, *where in [*forward, [0, 7, 0, 0]]]


def test_a_device_is_sent_a_table_once():
    first, second = (bundle(PAIR, 7, 1, torch.device("meta"), 256)[1] for _ in range(2))
    assert all(a is b for a, b in zip(first, second, strict=True))


def test_a_brick_that_no_program_holds_is_refused():
    walks = tuple(bricks((3, 10, 10), "thw", back, brick=(3, 10, 10)) for back in (False, True))
    with pytest.raises(ValueError, match=r"ssd_scan: walks share bricks of 300 tokens, .* at most 256: use smaller"):
        bundle(walks, 64, 1, CPU, 256)
