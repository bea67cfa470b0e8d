"""Mixers on rows of frames, on one rank and on several."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, product

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ssmvid import memory
from ssmvid.backbones import MambaND, MultiScan, VideoMamba
from ssmvid.mixers import SS2D, Attention, Mamba, Mamba2, MambaState
from ssmvid.parallel import Piece, context_parallel
from ssmvid.scan import Grid, ScanPattern
from tests.parallel.ranks import counted_bytes

DIM, HEIGHT, WIDTH = 8, 2, 3


def scanning(kind: type[nn.Module], orders: Sequence[str], causal: int | None = None, **options: object) -> nn.Module:
    pattern = ScanPattern.parse(orders, place="spread" if causal else "head", causal_frames=causal)
    return kind(DIM, pattern=pattern, state_size=3, **options)


mamba2 = partial(scanning, Mamba2, head_dim=4)
attending = partial(Attention, DIM, head_dim=4)


@dataclass
class Case:
    """A mixer, the frames of each rank in a clip or the pieces of packed clips, prefix tokens, frames of a segment."""

    make: Callable[[], nn.Module]
    frames: Sequence[int] | Sequence[Sequence[Piece]]
    prefix: int = 0
    causal: int | None = None
    size: tuple[int, int] = (HEIGHT, WIDTH)

    @property
    def packed(self) -> bool:
        return not isinstance(self.frames[0], int)

    @property
    def pieces(self) -> list[list[Piece]]:
        if self.packed:
            return [[Piece(*piece) for piece in own] for own in self.frames]
        stops = list(accumulate(self.frames))
        return [[Piece(0, stop - count, stop)] for count, stop in zip(self.frames, stops)]

    def rows(self, frames: int) -> int:
        """Of so many frames, with their prefix tokens."""
        segments = -(-frames // self.causal) if self.causal else 1
        return frames * self.size[0] * self.size[1] + segments * self.prefix

    def grids(self, frames: Sequence[int]) -> Grid | list[Grid]:
        grids = [Grid(count, *self.size) for count in frames]
        return grids if self.packed else grids[0]


def build(case: Case, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    mixer = case.make().to(dtype)
    for key, parameter in mixer.named_parameters():
        if "dt" in key:  # steps of the order of one tenth: states live on over borders, and are seen
            nn.init.uniform_(parameter, -4, -2)
        elif "in_proj" in key:
            nn.init.normal_(parameter)
    return mixer


def check(cases: dict[str, Case], tolerances: dict[torch.dtype, float]) -> None:
    """On every rank: its outputs and gradients are those of one rank that has all."""
    for (name, case), dtype in product(cases.items(), tolerances):
        try:
            check_one(case, dtype, tolerances[dtype])
        except AssertionError as error:
            raise AssertionError(f"{name}, {dtype}: {error}") from error


def check_one(case: Case, dtype: torch.dtype, tolerance: float) -> None:
    mixer, rank, pieces = build(case, dtype), dist.get_rank(), case.pieces
    clips = {piece.clip: piece.stop for own in pieces for piece in own}
    counts = [sum(case.rows(p.stop) - (case.rows(p.start) if p.start else 0) for p in own) for own in pieces]
    start = sum(counts[:rank])
    own = slice(start, start + counts[rank])
    tokens, weight = torch.randn(2, 1 if case.packed else 2, sum(counts), DIM, dtype=dtype).unbind()

    whole = run(mixer, tokens, case.grids(list(clips.values())), weight)
    with context_parallel(dist.group.WORLD, pieces if case.packed else None):
        grids = case.grids([piece.stop - piece.start for piece in pieces[rank]])
        part = run(mixer, tokens[:, own], grids, weight[:, own])

    close = partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance)
    close(part[0], whole[0][:, own])
    close(part[1], whole[1][:, own])
    for (key, _), grad, expected in zip(mixer.named_parameters(), part[2], whole[2]):
        dist.all_reduce(grad)
        scale = expected.abs().max()
        close(grad / scale, expected / scale, msg=lambda text, key=key: f"gradient of {key}: {text}")


def run(mixer: nn.Module, tokens: Tensor, grid: Grid | list[Grid], weight: Tensor) -> tuple[Tensor, Tensor, list]:
    """Outputs, gradient of the tokens, gradients of the parameters."""
    tokens = tokens.detach().requires_grad_()
    y = mixer(tokens, grid)
    grads = torch.autograd.grad((y * weight).sum(), [tokens, *mixer.parameters()])
    return y.detach(), grads[0], list(grads[1:])


def check_bytes(case: Case, longer: Case) -> None:
    """What a rank sends, forward and backward, does not depend on the length."""
    sent = []
    for one in (case, longer):
        mixer = build(one, torch.float32)
        grid = one.grids([one.frames[dist.get_rank()]])
        tokens = torch.randn(2, one.rows(grid.t), DIM)
        with counted_bytes() as counts, context_parallel(dist.group.WORLD):
            run(mixer, tokens, grid, torch.ones(()))
        sent.append(counts)
    assert sent[0], "nothing was sent"
    assert sent[0] == sent[1], sent


def check_stream() -> None:
    """A step of a stream: the state before it is read on the first rank, the one after it is the last one's."""
    rank, frames = dist.get_rank(), (2, 4)
    for make in (partial(scanning, Mamba), mamba2):
        case = Case(partial(make, ("hwt", "thw+rev"), 2), frames, causal=2)
        mixer = build(case, torch.float64)
        state = MambaState(*(torch.randn_like(tensor) for tensor in mixer.init_state(2, Grid(2, 2, 3))))
        tokens = torch.randn(2, case.rows(6), DIM, dtype=torch.float64)
        y, after = mixer.step(tokens, Grid(6, 2, 3), state)
        own = slice(0, 12) if rank == 0 else slice(12, None)
        with context_parallel(dist.group.WORLD):
            part, state = mixer.step(tokens[:, own], Grid(frames[rank], 2, 3), state)
        torch.testing.assert_close(part, y[:, own], rtol=1e-10, atol=1e-10)
        if rank == 1:
            torch.testing.assert_close(state, after, rtol=1e-10, atol=1e-10)


def check_refusals() -> None:
    """What is not covered raises before anything is sent, so on each rank by itself."""
    grid = Grid(3, 2, 2)
    model = partial(MultiScan, dim=8, depth=1, hybrid="M", head_dim=4, img_size=4, tubelet=(1, 2, 2), state_size=2)
    causal, free = model(causal_frames=2), model(registers=0, orders=["hwt"], schedule="same")
    with context_parallel(dist.group.WORLD):
        clip = torch.randn(1, 3, 2, 4, 4)
        refused("order hwt leaves the frames", free.forward_tokens, clip)
        for order in ("wth", "thw+snake", "thw+random0"):
            refused(f"order {re.escape(order)} leaves", mamba2([order]), torch.randn(1, 12, DIM), grid)
        refused("prefix tokens lie before a clip", mamba2(["thw"]), torch.randn(1, 13, DIM), grid)
        refused("give context_parallel the pieces", mamba2(["thw"]), torch.randn(1, 24, DIM), [grid, grid])
        class_token = VideoMamba(dim=8, depth=1, img_size=32)
        refused("class token: not covered", class_token.forward_head, torch.randn(1, 5, 8))
        refused("'multi_axis': not covered", memory.run, causal, clip, lambda x, at: x, cells=memory.Cells(1, 1))
        for table in (class_token, MambaND(dim=8, depth=1, img_size=32, num_frames=2)):
            refused("temporal table: not covered", table.forward_tokens, torch.randn(1, 3, 2, 32, 32))
        refused(
            "in this mixer: not covered", SS2D(DIM, pattern=ScanPattern.parse(["thw"])), torch.randn(1, 12, DIM), grid
        )
        if dist.get_rank() == 0:  # whose clip goes on at the next rank
            refused("must be a multiple of 2", mamba2(["thw"], 2), torch.randn(1, 12, DIM), grid)
            refused("must be a multiple of 2", attending(window=2), torch.randn(1, 12, DIM), grid)
    with pytest.raises(ValueError, match="each of the 2 ranks needs"), context_parallel(dist.group.WORLD, [[]]):
        pass
    gap = [[Piece(0, 0, 2)], [Piece(0, 3, 4)]]
    with pytest.raises(ValueError, match="one after another"), context_parallel(dist.group.WORLD, gap):
        pass


def refused(message: str, function: Callable[..., object], *args: object, **options: object) -> None:
    with pytest.raises(ValueError, match=message):
        function(*args, **options)
