"""Write docs/models.md, every registered model measured: `python docs/make_models.py [page]`."""

from __future__ import annotations

import fnmatch
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode

import ssmvid
from ssmvid.backbones import Backbone
from ssmvid_kernels.backends import Choice

ROOT = Path(__file__).parents[1]
KEYS = ROOT / "tests" / "backbones" / "keys"
TIMES = ROOT / "benchmarks" / "results" / "amd-epyc-avx512.jsonl"  # of benchmarks/bench_zoo.py, one machine
# Released outputs under tests/backbones/goldens, and the models they hold for: same code, other sizes.
PROVEN = {
    "videomamba_f4": "videomamba_*",
    "videomamba_pretrain": "videomamba_middle_pretrain",
    "vim": "vim_*",
    "mambareg": "mambareg_*",
    "local_vim": "local_vim_*",
    "local_vim_rope": "local_vim_*",
    "local_vim_middle": "local_vim_tiny_middle_cls_token",
    "local_vim_search": "local_vim_tiny_search",
    "mamba3d": "mamba3d_*",
    "plain_mamba": "plain_mamba_*",
    "vmamba": "vmamba_*",
    "vmamba_vanilla": "vanilla_vmamba_*",
    "mambavision": "mambavision_*",
}
HEAD = """# Models

Made by `python docs/make_models.py`; do not edit.

- **parameters**: counted; "released" where tests/backbones/test_official.py holds them to the released class's number.
- **GFLOP**: of a forward pass of one clip or image, as torch's `FlopCounterMode` counts it: two a multiply-accumulate
  of a matmul or convolution, and each multiply, addition and exponential of the package's own operators (scans, causal
  convolutions, norms), which the column after it has alone. Papers often give multiply-accumulates, and often leave
  the scans out. Pretraining's student is counted without a mask.
- **CPU ms**: of that pass, the median, in float32 on two threads of {device} (`python benchmarks/bench_zoo.py`).
- **keys**: the released checkpoint's names and shapes load (a listing in tests/backbones/keys). Models of one family
  share the code that renames.
- **output**: the recorded output of the released code, on random weights at a small size, that the model's code gives
  back to 1e-5 on the reference, torch and cpu backends (a file in tests/backbones/goldens).

| model | input T x H x W | parameters | | GFLOP | own operators | CPU ms | keys | output | source |
|---|---|---|---|---|---|---|---|---|---|
"""


def names() -> list[str]:
    """Every registered model, those that have released weights of other sizes once a tag, `model.tag`."""
    counts = released()
    bare = {name.partition(".")[0] for name in counts}
    return sorted([*counts, *(name for name in ssmvid.list_models() if name not in bare)])


def released() -> dict[str, int]:
    """The released classes' parameter counts, which the tests hold the models to."""
    sys.path.insert(0, str(ROOT))
    from tests.backbones.test_official import COUNTS

    return COUNTS


def times() -> dict[str, dict[str, Any]]:
    """The newest measured row of each model."""
    rows = [json.loads(line) for line in TIMES.read_text().splitlines()]
    return {row["model"]: row for row in rows if row["op"] == "zoo"}


def made_for(model: Backbone) -> tuple[int, ...]:
    """T, H, W of the clip that a model's grid stands for."""
    embed = model.patch_embed
    return tuple((n - 1) * step + brick for n, step, brick in zip(model.grid, embed.stride, embed.tubelet))


def flops(model: Backbone) -> tuple[float, float]:
    """GFLOP of a model on the meta device, in all, and those of the package's operators."""
    clip = torch.empty(1, model.patch_embed.channels, *made_for(model), device="meta")
    # The fused operators know the shapes of what they would give, and so their operations, on no device as well.
    on_meta = mock.patch("ssmvid_kernels.backends.choose", lambda op, device: Choice(op, "meta", "cpu", {}))
    with on_meta, FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.eval().forward_head(model.forward_features(clip))
    every = counter.get_flop_counts()["Global"]
    own = sum(count for op, count in every.items() if str(op).startswith("ssmvid."))
    return sum(every.values()) / 1e9, own / 1e9


def row(name: str) -> str:
    """A model's line of the table."""
    with torch.device("meta"):
        model = ssmvid.create_model(name)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    bare = name.partition(".")[0]
    golden = [key for key, pattern in PROVEN.items() if fnmatch.fnmatch(bare, pattern)][-1:]
    listing = any(
        fnmatch.fnmatch(path.stem, f"{name}.in1k" if name == bare else name) or path.stem == name
        for path in KEYS.iterdir()
    )
    every, own = flops(model)
    cells = [
        f"`{name}`",
        " x ".join(map(str, made_for(model))),
        f"{parameters:,}",
        "released" if released().get(name) == parameters else "",
        f"{every:,.2f}",
        f"{own:,.2f}",
        f"{times()[name]['ms']:,.0f}",
        "yes" if listing else "",
        *(golden or [""]),
        str(model.pretrained_cfg.get("paper_ids") or ""),
    ]
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "models.md"
    (device,) = {row["device"] for row in times().values()}
    page.write_text(HEAD.format(device=device) + "".join(row(name) for name in names()))
