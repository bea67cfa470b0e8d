"""Seconds a clip and memory of models, beside a joint-attention ViT of the same width, and from where they are faster.

python benchmarks/bench_model.py                                   # videomamba_tiny, 8 frames of 224 x 224, on the CPU
python benchmarks/bench_model.py models=[videomamba_small] frames=[16] device=cuda dtype=bfloat16
python benchmarks/bench_model.py models=[multiscan_tiny,videomamba_tiny] frames=[8,16,32,64,128] backends=[auto]
python benchmarks/bench_model.py backends=[auto] official=PATH     # beside the official code, from a checkout of it

A row is written only for a backend whose tokens are right: within 3 times the torch backend's rounding of the float64
tokens. With three lengths or more the crossover is printed, and `report.py` draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import official
import torch
from crossover import PEER, crossovers
from machine import device_name, measure, peak_mib, save
from omegaconf import DictConfig
from torch import Tensor, nn

import ssmvid
from ssmvid_kernels import backends, use_backend
from ssmvid_kernels.testing import assert_as_exact

Row = dict[str, Any]


@hydra.main(version_base="1.3", config_path=".", config_name="bench_model")
def main(cfg: DictConfig) -> None:
    torch.set_num_threads(cfg.threads)
    print(f"{device_name(cfg.device)}, {cfg.dtype}, {cfg.threads} threads")
    rows: list[Row] = []
    for frames in cfg.frames:
        for row in measured(frames, cfg):
            rows.append(row)
            if cfg.out:
                save([row], Path(cfg.out), cfg.device)
    print(*crossovers(rows), sep="\n")


def measured(frames: int, cfg: DictConfig) -> Iterator[Row]:
    """The rows of each model at one length: of the ViT's first, which models of one width share."""
    clip = torch.randn(cfg.batch, 3, frames, cfg.size, cfg.size, generator=torch.Generator().manual_seed(0))
    peers: dict[int, Row] = {}
    for name in cfg.models:
        model = ssmvid.create_model(name, num_frames=frames, img_size=cfg.size).eval()
        run, tokens = checked(model, clip, cfg)
        shape = dict(model=name, batch=cfg.batch, frames=frames, size=cfg.size, tokens=tokens)
        shape |= {"pass": "fwd", "dtype": cfg.dtype, "threads": cfg.threads}
        print(f"{name}: {frames} frames, {tokens} tokens")
        dim = model.num_features
        if dim not in peers:
            peers[dim] = timed(joint_attention(dim, clip, cfg), cfg)
        for backend, figures in ((PEER, peers[dim]), *((name, timed(call, cfg)) for name, call in run.items())):
            memory = "" if figures["peak_mib"] is None else f"  {figures['peak_mib']:8.0f} MiB"
            low, high = (figures[p] / 1e3 / cfg.batch for p in ("p20", "p80"))
            print(f"  {backend:16} {figures['s_a_clip']:8.3f} s a clip  ({low:.3f}-{high:.3f}){memory}", flush=True)
            yield shape | dict(op="model", backend=backend) | figures


def checked(model: nn.Module, clip: Tensor, cfg: DictConfig) -> tuple[dict[str, Callable[[], Tensor]], int]:
    """A call of each backend that can run here and is as exact as torch's, and the number of tokens."""
    exact = tokens_of(model.to(cfg.device, torch.float64), clip.to(cfg.device, torch.float64), "auto")
    dtype = getattr(torch, cfg.dtype)
    model, inputs = model.to(cfg.device, dtype), clip.to(cfg.device, dtype)
    plain = tokens_of(model, inputs, "torch")
    calls = {}
    for backend in cfg.backends:
        reason = backend != "auto" and backends.why_not(backend, torch.device(cfg.device))
        if reason:
            print(f"  without {backend}: {'; '.join(reason)}")
            continue
        calls[backend] = lambda backend=backend: tokens_of(model, inputs, backend)
        assert_as_exact(backend, calls[backend](), plain, exact)
    if cfg.official:
        theirs = official.videomamba(Path(cfg.official), model, clip.shape[2], cfg.size)
        calls["official"] = lambda: tokens_of(theirs, inputs, "auto")
        assert_as_exact("official", calls["official"](), plain[:, 0], exact[:, 0])  # it gives the class token alone
    return calls, exact.shape[1]


def joint_attention(dim: int, clip: Tensor, cfg: DictConfig) -> Callable[[], Tensor]:
    """A call of timm's 12-block ViT on all tokens of a clip at once: to it that is one tall image, token for token."""
    frames, dtype = clip.shape[2], getattr(torch, cfg.dtype)
    image = clip.flatten(2, 3).to(cfg.device, dtype)
    sizes = dict(embed_dim=dim, num_heads=dim // 64, img_size=(frames * cfg.size, cfg.size))
    vit = ssmvid.create_model("vit_tiny_patch16_224", **sizes).to(cfg.device, dtype).eval()
    return lambda: tokens_of(vit, image, "auto")


@torch.inference_mode()
def tokens_of(model: nn.Module, clip: Tensor, backend: str) -> Tensor:
    with use_backend(backend):
        return model.forward_features(clip)


def timed(call: Callable[[], Tensor], cfg: DictConfig) -> Row:
    fast, median, slow = measure(call, cfg.device, cfg.seconds)
    peak = peak_mib(call, cfg.device)
    return dict(s_a_clip=median / 1e3 / cfg.batch, ms=median, p20=fast, p80=slow, peak_mib=peak)


if __name__ == "__main__":
    main()
