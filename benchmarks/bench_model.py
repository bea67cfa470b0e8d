"""Seconds a clip of a model, on every backend that can run here, beside a joint-attention ViT of the same width.

python benchmarks/bench_model.py                                   # videomamba_tiny, 8 frames of 224 x 224, on the CPU
python benchmarks/bench_model.py model=videomamba_small frames=16 device=cuda dtype=bfloat16

A row is written only for a backend whose tokens are right: within 3 times the torch backend's rounding of the float64
tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
import torch
from machine import device_name, measure, save
from omegaconf import DictConfig
from torch import Tensor, nn

import ssmvid
from ssmvid_kernels import backends, use_backend
from ssmvid_kernels.testing import assert_as_exact

BACKENDS = ("reference", "torch", "cpu", "triton")


@hydra.main(version_base="1.3", config_path=".", config_name="bench_model")
def main(cfg: DictConfig) -> None:
    torch.set_num_threads(cfg.threads)
    dtype = getattr(torch, cfg.dtype)
    model = ssmvid.create_model(cfg.model, num_frames=cfg.frames, img_size=cfg.size).eval()
    clip = torch.randn(cfg.batch, 3, cfg.frames, cfg.size, cfg.size, generator=torch.Generator().manual_seed(0))
    exact = tokens_of(model.to(cfg.device, torch.float64), clip.to(cfg.device, torch.float64), "auto")
    model, clip = model.to(cfg.device, dtype), clip.to(cfg.device, dtype)
    plain = tokens_of(model, clip, "torch")
    shape = dict(model=cfg.model, batch=cfg.batch, frames=cfg.frames, size=cfg.size, tokens=exact.shape[1])
    print(f"{shape} on {device_name(cfg.device)}, {cfg.dtype}")
    peer = JointAttention(model.num_features, cfg.frames, cfg.size).to(cfg.device, dtype).eval()
    rows = [row("joint attention", peer, clip, "auto", cfg)]
    for backend in BACKENDS:
        if backends.why_not(backend, torch.device(cfg.device)):
            continue
        assert_as_exact(backend, tokens_of(model, clip, backend), plain, exact)
        rows.append(row(backend, model, clip, backend, cfg))
    if cfg.out:
        fixed = shape | {"pass": "fwd", "dtype": cfg.dtype, "threads": cfg.threads}
        save([fixed | timed for timed in rows], Path(cfg.out), cfg.device)


class JointAttention(nn.Module):
    """timm's 12-block ViT over all tokens of a clip at once: a clip is one tall image to it, token for token."""

    def __init__(self, dim: int, frames: int, size: int) -> None:
        super().__init__()
        name = "vit_tiny_patch16_224"
        self.vit = ssmvid.create_model(name, embed_dim=dim, num_heads=dim // 64, img_size=(frames * size, size))

    def forward_features(self, clip: Tensor) -> Tensor:
        """(b, c, T, H, W) -> class token and tokens (b, 1 + l, dim)."""
        return self.vit.forward_features(clip.flatten(2, 3))


@torch.inference_mode()
def tokens_of(model: nn.Module, clip: Tensor, backend: str) -> Tensor:
    with use_backend(backend):
        return model.forward_features(clip)


def row(name: str, model: nn.Module, clip: Tensor, backend: str, cfg: DictConfig) -> dict[str, Any]:
    fast, median, slow = measure(lambda: tokens_of(model, clip, backend), cfg.device, cfg.seconds)
    seconds, low, high = (ms / 1e3 / cfg.batch for ms in (median, fast, slow))
    print(f"  {name:16} {seconds:8.3f} s a clip  ({low:.3f}-{high:.3f})", flush=True)
    return dict(op="model", backend=name, s_a_clip=seconds, ms=median, p20=fast, p80=slow)


if __name__ == "__main__":
    main()
