"""Make torchvision importable beside a CPU-only torch; imported before anything that imports torchvision (timm)."""

from __future__ import annotations

import sys

import torch

# The default torchvision wheel is linked against CUDA. Beside a CPU-only torch its C++ library cannot be loaded, its
# operators stay undeclared, and the import dies where Python code registers their meta functions. Declaring these
# two is enough; the C++ operators themselves (nms, roi_align, the image codecs) stay unavailable.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# A declaration lives as long as its Library object.
_libraries: list[torch.library.Library] = []


def ensure_torchvision() -> None:
    """Import torchvision, declaring the operators its own library could not; does nothing more where it loads.

    Raises:
        ImportError, RuntimeError: torchvision is missing, or fails for another reason; its own message.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    else:
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _libraries.append(library)
    import torchvision  # noqa: F401


ensure_torchvision()
