"""The official VideoMamba code as a peer, from a checkout of github.com/OpenGVLab/VideoMamba, on a CPU.

It needs CUDA extensions for its fused path. Here each of those calls is put together from what its own files offer
without them: PyTorch's convolution and its `selective_scan_ref`; its RMSNorm is PyTorch's. No other line of it changes.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch.nn.functional as F
from torch import Tensor, nn

MODEL = Path("videomamba/video_sm/models/videomamba.py")
MAMBA = Path("mamba/mamba_ssm")  # a fork of the package of that name


def videomamba(checkout: Path, ours: nn.Module, num_frames: int, img_size: int) -> nn.Module:
    """The official model with the weights of `ours`, which has all of its keys.

    Raises:
        FileNotFoundError: `checkout` is not one of that repository.
    """
    if not (checkout / MODEL).exists():
        raise FileNotFoundError(f"{checkout / MODEL}: not there; give the folder of a checkout of OpenGVLab/VideoMamba")
    sizes = dict(embed_dim=ours.num_features, depth=len(ours.layers), num_classes=ours.num_classes)
    with patch.dict(sys.modules, _stand_ins(checkout / MAMBA)):
        scan = importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_ref
        mixer = importlib.import_module("mamba_ssm.modules.mamba_simple")
        mixer.mamba_inner_fn_no_out_proj = lambda *args, **options: _inner(scan, *args, **options)
        spec = importlib.util.spec_from_file_location("official_videomamba", checkout / MODEL)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        options = dict(rms_norm=True, residual_in_fp32=True, fused_add_norm=False)
        theirs: nn.Module = module.VisionMamba(num_frames=num_frames, img_size=img_size, **sizes, **options)
    theirs.load_state_dict(ours.state_dict())
    return theirs.eval()


def _inner(
    scan: Any, xz: Tensor, conv: Tensor, bias: Tensor, project: Tensor, expand: Tensor, *args: Any, **options: Any
) -> Tensor:
    """Its `mamba_inner_fn_no_out_proj`: convolution, projections, scan and gate."""
    A, _, _, D = args  # B and C depend on the input
    (x, z), l, n, rank = xz.chunk(2, dim=1), xz.shape[-1], A.shape[1], expand.shape[1]
    x = F.silu(F.conv1d(x, conv, bias, padding=conv.shape[-1] - 1, groups=x.shape[1])[..., :l])
    dt, B, C = F.linear(x.transpose(1, 2), project).split([rank, n, n], dim=-1)
    dt, B, C = (tensor.transpose(1, 2).contiguous() for tensor in (F.linear(dt, expand), B, C))
    y: Tensor = scan(x, dt, A, B, C, D, z=z, **options)
    return y


def _stand_ins(mamba: Path) -> dict[str, ModuleType]:
    """Modules it imports that are missing here, or would do more than is wanted."""
    packages = {name: _module(name) for name in ("mamba_ssm", "mamba_ssm.modules", "mamba_ssm.ops")}
    for name, package in packages.items():  # empty, for their __init__ would import language models
        package.__path__ = [str(mamba.parent / name.replace(".", "/"))]
    return packages | {
        "causal_conv1d": _module("causal_conv1d", causal_conv1d_fn=None, causal_conv1d_update=None),
        "causal_conv1d_cuda": _module("causal_conv1d_cuda"),
        "selective_scan_cuda": _module("selective_scan_cuda"),
        "mamba_ssm.ops.triton.layernorm": _module(
            "mamba_ssm.ops.triton.layernorm", RMSNorm=nn.RMSNorm, layer_norm_fn=None, rms_norm_fn=None
        ),
        "timm.models.registry": _module("timm.models.registry", register_model=lambda build: build),  # ours stay
        "timm.models.layers": importlib.import_module("timm.layers"),  # where it lies today
    }


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    return module
