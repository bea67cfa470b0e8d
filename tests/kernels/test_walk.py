"""Walks: the rows they read, their form as a tensor, what is refused, and the same rows inside a Triton kernel."""

import itertools

import pytest
import torch
import triton
import triton.language as tl

from ssmvid_kernels import Walk
from ssmvid_kernels.calls import shuffled
from ssmvid_kernels.testing import device_of
from ssmvid_kernels.triton_walk import open_clip, open_walk, row_of
from ssmvid_kernels.walk import decode, encode, places

AFFINE = [
    Walk((2, 3, 4), (12, 4, 1)),
    Walk((4, 3, 2), (1, 4, 12), prefix=2),
    Walk((3, 2, 4), (4, 12, 1), reverse=True, prefix=3),
    Walk((1, 1, 5), (5, 5, 1), reverse=True),
    Walk((7, 1, 1)),
    Walk((0, 3, 2), (6, 2, 1), prefix=2),
    Walk(prefix=4),
    Walk(),
]


def rows_by_loop(walk: Walk) -> list[int]:
    path = list(range(walk.prefix))
    for digits in itertools.product(*(range(size) for size in walk.sizes)):
        path.append(walk.prefix + sum(digit * stride for digit, stride in zip(digits, walk.strides)))
    return path[::-1] if walk.reverse else path


@pytest.mark.parametrize("walk", AFFINE, ids=str)
def test_rows_of_an_affine_walk(walk):
    rows = walk.rows()
    assert rows.dtype == torch.int32
    assert rows.tolist() == rows_by_loop(walk)
    assert walk.length == len(rows)


def test_rows_of_a_table():
    walk = shuffled((3, 0, 4), seed=1)
    assert walk.length == 7
    assert walk.rows() is walk.table
    assert sorted(walk.rows()[:3].tolist()) == [0, 1, 2]


def test_affine_walks_are_encoded_as_numbers_and_others_as_rows():
    cpu, walks = torch.device("cpu"), AFFINE[:2][::-1]
    walks = [Walk((2, 3, 4), (12, 4, 1), prefix=2), *walks[:1]]
    fields, rows = encode(walks, cpu), torch.stack([walk.rows() for walk in walks])
    assert fields.dtype == torch.int64
    assert fields[0].tolist() == [2, 3, 4, 12, 4, 1, 0, 2]
    assert torch.equal(decode(fields, 26), rows)
    mixed = encode([walks[0], shuffled((26,), seed=0)], cpu)
    assert mixed.dtype == torch.int32
    assert torch.equal(mixed[0], rows[0])
    assert decode(mixed, 26) is mixed


def test_equal_walks_are_equal():
    assert Walk((2, 3, 4), (12, 4, 1)) == Walk((2, 3, 4), (12, 4, 1))
    assert Walk((2, 3, 4), (12, 4, 1)) != Walk((2, 3, 4), (12, 4, 1), reverse=True)


def test_a_path_and_its_reverse_know_each_other():
    table = torch.tensor([2, 0, 1, 4, 3], dtype=torch.int32)
    clips = Walk(table=table, lengths=(3, 2))
    back = Walk(table=torch.tensor([1, 0, 2, 3, 4], dtype=torch.int32), lengths=(3, 2))
    assert clips.path != back.path
    assert (clips.path, clips.backwards) == (back.backwards, back.path)
    affine = Walk((2, 3, 4), (12, 4, 1), prefix=2)
    back = Walk((2, 3, 4), (12, 4, 1), prefix=2, reverse=True)
    assert (affine.path, affine.backwards) == (back.backwards, back.path)
    assert Walk((2, 3, 4), (12, 4, 1)).path != affine.path


def test_bricks_are_the_rows_they_hold():
    table = torch.tensor([2, 0, 1, 4, 3], dtype=torch.int32)
    walk = Walk(table=table, chunks=(3, 2))
    other = Walk(table=torch.tensor([3, 4, 0, 1, 2], dtype=torch.int32), chunks=(2, 3))
    assert walk.bricks[0] == other.bricks[0]
    assert (walk.bricks[1], other.bricks[1]) == ((0, 3), (3, 0))
    assert Walk(table=table, chunks=(2, 3)).bricks[0] != walk.bricks[0]
    assert Walk(table=table).bricks is None


def test_places_are_the_inverse_of_rows():
    walks = [*AFFINE[:2], Walk(table=AFFINE[0].rows().flip(0))]
    paths = torch.stack([walk.rows() for walk in walks if walk.length == walks[0].length])
    found = places(paths, walks[0].length)
    assert found.dtype == torch.int32
    assert torch.equal(paths.gather(1, found.long()), torch.arange(walks[0].length, dtype=torch.int32).expand_as(paths))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(sizes=(2, -1, 3)), r"sizes and prefix must be >= 0, got \(2, -1, 3\) and 0"),
        (dict(prefix=-1), r"sizes and prefix must be >= 0"),
        (dict(table=torch.arange(3)), r"table must be int32 \(l,\) .* got torch.int64 \(3,\)"),
        (dict(table=torch.zeros(2, 2, dtype=torch.int32)), r"table must be int32 \(l,\) .* got torch.int32 \(2, 2\)"),
        (dict(table=torch.tensor([0, 1, 1], dtype=torch.int32)), r"must visit each of the rows 0\.\.2 once"),
        (dict(table=torch.tensor([0, 3, 1], dtype=torch.int32)), r"must visit each of the rows 0\.\.2 once"),
        (dict(table=torch.tensor([0, 1, 2], dtype=torch.int32), lengths=(1, 1)), r"l = sum of lengths = 2"),
        (dict(table=torch.tensor([2, 1, 0], dtype=torch.int32), lengths=(1, 2)), r"must visit each of the rows 0\.\.0"),
        (dict(chunks=(2,)), r"chunks are stretches of a table: give the path as one"),
        (dict(table=torch.arange(3, dtype=torch.int32), chunks=(2,)), r"fill the 3 steps .* got 1 that hold 2"),
        (dict(table=torch.arange(3, dtype=torch.int32), chunks=(3, 0)), r"chunks must be >= 1 .* got 2 that hold 3"),
        (dict(table=torch.arange(3, dtype=torch.int32), lengths=(1, 2), chunks=(2, 1)), r"clip by clip"),
    ],
)
def test_impossible_walks_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"Walk: .*{message}"):
        Walk(**fields)


@triton.jit
def write_rows(paths, cu_seqlens, rows, bounds, length, STEPS: tl.constexpr):
    path = tl.program_id(0).to(tl.int64)
    walk = open_walk(paths, path, length)
    step = tl.arange(0, STEPS)
    tl.store(rows + path * length + step, row_of(walk, step, length), mask=step < length)
    batch, start, end = open_clip(cu_seqlens, path, length)
    tl.store(bounds + path * 3, batch)
    tl.store(bounds + path * 3 + 1, start)
    tl.store(bounds + path * 3 + 2, end)


def run_write_rows(paths, cu_seqlens, programs, length):
    device = device_of("triton")
    rows = torch.full((programs, length), -1, dtype=torch.int64, device=device)
    bounds = torch.full((programs, 3), -1, dtype=torch.int64, device=device)
    given = (None if tensor is None else tensor.to(device) for tensor in (paths, cu_seqlens))
    write_rows[programs,](*given, rows, bounds, length, STEPS=64)
    return rows.tolist(), bounds.tolist()


@pytest.mark.parametrize("walk", [*AFFINE, shuffled((11,), seed=3)], ids=str)
def test_a_triton_kernel_reads_the_same_rows(walk):
    other = Walk((walk.length, 1, 1), reverse=True)
    paths = encode([other, walk], torch.device("cpu"))
    rows, _ = run_write_rows(paths, None, 2, walk.length)
    assert rows == [other.rows().tolist(), walk.rows().tolist()]


def test_a_triton_kernel_takes_rows_as_they_lie_and_finds_its_clip():
    rows, bounds = run_write_rows(None, None, 2, 5)
    assert rows == [[0, 1, 2, 3, 4]] * 2
    assert bounds == [[0, 0, 5], [1, 0, 5]]
    _, bounds = run_write_rows(None, torch.tensor([0, 2, 2, 5], dtype=torch.int32), 3, 5)
    assert bounds == [[0, 0, 2], [0, 2, 2], [0, 2, 5]]
