"""A hybrid backbone on one rank, and on a mesh of ranks with its parameters sharded."""

from __future__ import annotations

from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from ssmvid.backbones import MultiScan
from ssmvid.parallel import context_parallel, split_frames

FRAMES = (2, 5)  # of a clip of two ranks, uneven; a segment has two


def build() -> MultiScan:
    torch.manual_seed(0)
    return MultiScan(
        dim=8, depth=4, hybrid="MSWA", orders=("hwt", "thw+rev"), schedule="same", causal_frames=2, window=4,
        registers=1, num_classes=0, img_size=(4, 6), tubelet=(1, 2, 2), state_size=3, head_dim=4,
    )  # fmt: skip


def check_on_mesh(data_parallel: int) -> None:
    """Outputs and gradients on a mesh of data-parallel rows, each of which shares a clip out over two ranks."""
    mesh = init_device_mesh("cpu", (data_parallel, 2), mesh_dim_names=("dp", "cp"))
    whole = build()
    clips = torch.randn(data_parallel, 3, sum(FRAMES), 4, 6)
    weight = torch.randn(data_parallel, sum(FRAMES) * 6, 8)
    y = whole.forward_tokens(clips)[0]
    (y * weight).sum().backward()

    model = build()
    shards = mesh if data_parallel > 1 else mesh["cp"]  # two axes: replicated over dp, sharded over cp
    for layer in (*model.layers, model):
        fully_shard(layer, mesh=shards)
    register_fsdp_forward_method(model, "forward_tokens")
    row, rank = mesh.get_coordinate()
    frames, rows = ((slice(0, n), slice(n, None)) for n in (FRAMES[0], FRAMES[0] * 6))
    with context_parallel(mesh["cp"].get_group()):
        part = model.forward_tokens(clips[row : row + 1, :, frames[rank]])[0]
        # The mean that FSDP2 takes over the ranks becomes the sum of their shares.
        loss = (part * weight[row : row + 1, rows[rank]]).sum() * dist.get_world_size()
        loss.backward()
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
    close(part, y[row : row + 1, rows[rank]])
    for (key, own), expected in zip(model.named_parameters(), whole.parameters()):
        close_to_scale(key, own.grad, expected.grad)


def close_to_scale(key: str, grad: Tensor | None, expected: Tensor | None) -> None:
    """A parameter's gradient, by the largest of its entries."""
    assert isinstance(grad, DTensor)
    assert expected is not None
    scale = expected.abs().max()
    torch.testing.assert_close(grad.full_tensor() / scale, expected / scale, rtol=1e-5, atol=1e-5, msg=key)


def check_packed(frames: tuple[int, ...]) -> None:
    """Packed clips, shared out by `split_frames`: outputs, and gradients summed over the ranks."""
    rank, size = dist.get_rank(), dist.get_world_size()
    model = build()
    clips = [torch.randn(3, count, 4, 6) for count in frames]
    y, _ = model.forward_packed(clips)
    weight = torch.randn_like(y)
    expected = torch.autograd.grad((y * weight).sum(), [*model.parameters()])
    pieces = split_frames(frames, size, unit=2)
    before = 6 * sum(piece.stop - piece.start for own in pieces[:rank] for piece in own)
    with context_parallel(dist.group.WORLD, pieces):
        part, _ = model.forward_packed([clips[piece.clip][:, piece.start : piece.stop] for piece in pieces[rank]])
        own = slice(before, before + part.shape[1])
        grads = torch.autograd.grad((part * weight[:, own]).sum(), [*model.parameters()])
    torch.testing.assert_close(part, y[:, own], rtol=1e-5, atol=1e-5)
    for grad, whole in zip(grads, expected):
        dist.all_reduce(grad)
        torch.testing.assert_close(grad / whole.abs().max(), whole / whole.abs().max(), rtol=1e-5, atol=1e-5)
