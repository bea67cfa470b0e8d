"""Every model, small enough for a test."""

from ssmvid import list_models

_PLAIN = {"dim": 16, "depth": 2, "num_classes": 5, "img_size": 16, "tubelet": (1, 8, 8), "state_size": 4}
_STAGES = {"dim": 8, "depths": [1, 1], "num_classes": 5, "img_size": 16}
_HYBRID = {"dim": 8, "depths": [1, 1, 2, 2], "num_classes": 5, "img_size": 64, "heads": [2, 4], "windows": [3, 2]}

_MULTISCAN = {**_PLAIN, "num_frames": 3, "hybrid": "MW", "head_dim": 8, "registers": 2}


class Sizes(dict[str, dict]):
    """Registry name -> options that make it small; for one that is not here those of the first of its family."""

    def __missing__(self, name: str) -> dict:
        return next(options for other, options in self.items() if other.split("_")[0] == name.split("_")[0])


TINY = Sizes(
    {
        "videomamba_tiny": {**_PLAIN, "num_frames": 2},
        "vim_tiny": _PLAIN,
        "videomamba_small": {**_PLAIN, "num_frames": 2, "merge": "concat"},
        "vim_small": {**_PLAIN, "merge": "gated"},
        "vim_tiny_stride8": {**_PLAIN, "stride": (1, 4, 4)},
        "mambareg_tiny": {**_PLAIN, "registers": 3},
        "mambareg_small": {**_PLAIN, "registers": 3},
        "local_vim_tiny": _PLAIN,
        "local_vim_tiny_middle_cls_token": {**_PLAIN, "num_frames": 2},
        "local_vim_tiny_search": _PLAIN,
        "mamba3d_small": {**_PLAIN, "num_frames": 2},
        "mamba2d_small": {**_PLAIN, "tubelet": (1, 4, 4), "halve_after": 0},
        "plain_mamba_l1": _PLAIN,
        "plain_mamba_l2": {**_PLAIN, "num_frames": 2},
        "vmamba_tiny_s1l8": _STAGES,
        "vmamba_tiny_s2l5": {**_STAGES, "num_frames": 2},
        "vmamba_small_s1l20": {**_STAGES, "merge": "concat"},
        "vanilla_vmamba_tiny": {**_STAGES, "state_size": 4},
        "mambavision_tiny": {**_HYBRID, "num_frames": 2},
        "mambavision_base": _HYBRID,
        "multiscan_tiny": _MULTISCAN,
        "multiscan_small": {
            **_MULTISCAN,
            "causal_frames": 2,
            "window": 4,
            "orders": ["hwt", "thw+rev"],
            "schedule": "same",
        },
    }
)

# Every model that makes logits of clips or images.
NAMES = [name for name in list_models() if name != "videomamba_middle_pretrain"]
