"""Visual tokens a second, and memory, against frames: a streaming state-space encoder beside one of joint attention.

python benchmarks/bench_encoder.py                          # 8 to 256 frames of 224 x 224, on the CPU
python benchmarks/bench_encoder.py device=cuda dtype=bfloat16 frames=[64,256,1024,4096]

The state-space encoder takes its frames in parts, as from a file; joint attention needs all of them at once. Both end
in a connector that makes a quarter of the tokens or fewer. A row is written only where what the parts gave is what
the whole clip gives, at the first length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import torch
from bench_model import joint_attention
from machine import device_name, measure, peak_mib, save
from omegaconf import DictConfig
from plots import slope
from torch import Tensor

import ssmvid
from ssmvid.lmm import MLPConnector, Pool, Storm, VisualTokenEncoder
from ssmvid.scan import Grid


@hydra.main(version_base="1.3", config_path=".", config_name="bench_encoder")
def main(cfg: DictConfig) -> None:
    torch.set_num_threads(cfg.threads)
    print(f"{cfg.model} on {device_name(cfg.device)}, {cfg.dtype}, {cfg.size} x {cfg.size}")
    done = []
    for row in measured(cfg):
        done.append(row)
        if cfg.out:
            save([row], Path(cfg.out), cfg.device)
    for name in dict.fromkeys(row["backend"] for row in done):
        line = [(row["tokens"], row["ms"], row["peak_mib"]) for row in done if row["backend"] == name]
        print(f"  {name:28} slope of time {slope(line, 1) or '-'}, of memory {slope(line, 2) or '-'}")


def measured(cfg: DictConfig) -> Iterator[dict[str, Any]]:
    """A row for every number of frames and encoder, as each is done."""
    dtype, too_slow = getattr(torch, cfg.dtype), set()
    encoder = state_space(cfg).to(cfg.device, dtype).eval()
    step = encoder.stream_frames * max(1, cfg.part // encoder.stream_frames)
    check(encoder, cfg, step, dtype)
    for frames in cfg.frames:
        clip = torch.randn(1, 3, frames, cfg.size, cfg.size, dtype=dtype, generator=torch.Generator().manual_seed(0))
        clip = clip.to(cfg.device)
        peer = attending(cfg, clip, encoder.backbone.num_features)
        tokens = encoder.grid(*clip.shape[2:]).length
        for name, call in ((cfg.model, partial(streamed, encoder, step, clip)), ("joint attention", peer)):
            if name in too_slow:
                print(f"  {frames:6} frames  {name:28} takes over {cfg.limit} s a clip at a shorter length")
                continue
            fast, median, slow = measure(call, cfg.device, cfg.seconds)
            row = dict(op="encoder", model=cfg.model, backend=name, batch=1, frames=frames, size=cfg.size)
            row |= {"pass": "fwd"} | dict(tokens=tokens, ms=median, p20=fast, p80=slow)
            row |= dict(peak_mib=peak_mib(call, cfg.device), dtype=cfg.dtype, threads=cfg.threads)
            rate, peak = 1e3 * tokens / median, "" if row["peak_mib"] is None else f"{row['peak_mib']:8.0f} MiB"
            print(f"  {frames:6} frames  {name:28} {median / 1e3:8.3f} s {rate:10,.0f} tokens/s {peak}", flush=True)
            yield row
            if median > 1e3 * cfg.limit:
                too_slow.add(name)


def state_space(cfg: DictConfig) -> VisualTokenEncoder:
    """A backbone that is causal in time and STORM's causal connector: both stream."""
    backbone = ssmvid.create_model(cfg.model, img_size=cfg.size, causal_frames=1, num_classes=0)
    return VisualTokenEncoder(backbone, Storm(dim=backbone.num_features, llm_dim=cfg.llm_dim, causal=True))


def attending(cfg: DictConfig, clip: Tensor, dim: int) -> Callable[[], Tensor]:
    """timm's ViT of the same width over all tokens at once, and averages with an MLP."""
    tokens_of_vit = joint_attention(dim, clip, cfg)
    connector = MLPConnector(dim=dim, llm_dim=cfg.llm_dim, reducer=Pool(stride=(4, 2, 2)))
    connector = connector.to(cfg.device, clip.dtype).eval()
    grid = Grid(clip.shape[2], cfg.size // 16, cfg.size // 16)

    @torch.inference_mode()
    def run() -> Tensor:
        return connector(tokens_of_vit()[:, 1:], grid).tokens

    return run


@torch.inference_mode()
def streamed(encoder: VisualTokenEncoder, step: int, clip: Tensor) -> Tensor:
    """Soft tokens of a clip whose frames are pushed part by part."""
    state, tokens = encoder.init_state(batch=1, img_size=(clip.shape[3], clip.shape[4])), []
    for part in clip.split(step, dim=2):
        soft, state = encoder.push(part, state)
        tokens.append(soft.tokens)
    return torch.cat(tokens, dim=1)


@torch.inference_mode()
def check(encoder: VisualTokenEncoder, cfg: DictConfig, step: int, dtype: torch.dtype) -> None:
    """Raise unless two parts give what the whole clip gives."""
    clip = torch.randn(1, 3, 2 * step, cfg.size, cfg.size, dtype=dtype, device=cfg.device)
    off = 1e-4 if dtype == torch.float32 else 5e-2
    torch.testing.assert_close(streamed(encoder, step, clip), encoder(clip).tokens, rtol=off, atol=off)


if __name__ == "__main__":
    main()
