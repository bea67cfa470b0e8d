"""An image model's weights for a video model of the same family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ssmvid.backbones.base import Backbone


PATCH = "patch_embed.proj.weight"
TEMPORAL = "temporal_pos_embedding"


def inflate(image: Mapping[str, Tensor], model: Backbone) -> dict[str, Tensor]:
    """An image model's state_dict under a video model's keys: on a still video it starts as the image model on a frame.

    The patch kernel becomes the middle frame of the tubelet's, the others are zero; a temporal table is zero.

    Args:
        image: its state_dict; one of a video model comes back as it is.
        model: the video model.

    Source: Li et al. 2024 (VideoMamba), arXiv:2403.06977, its released code (Apache-2.0); the middle frame:
        Arnab et al. 2021 (ViViT), arXiv:2103.15691, section 3.4.
    """
    own, video = model.state_dict(), dict(image)
    if PATCH in image and image[PATCH].dim() == 4 and own[PATCH].dim() == 5:
        frames = own[PATCH].shape[2]
        kernel = torch.zeros(*image[PATCH].shape[:2], frames, *image[PATCH].shape[2:], dtype=image[PATCH].dtype)
        kernel[:, :, frames // 2] = image[PATCH]
        video[PATCH] = kernel
    if TEMPORAL in own and TEMPORAL not in image:
        video[TEMPORAL] = torch.zeros_like(own[TEMPORAL], device="cpu")
    return video
