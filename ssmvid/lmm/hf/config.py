"""What a visual token encoder is made of, as data: it is read from the hub, so it can name nothing but ssmvid's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

import ssmvid.lmm
from ssmvid.from_config import from_config
from ssmvid.lmm.encoder import VisualTokenEncoder
from ssmvid.lmm.soft import Connector, Reducer
from ssmvid.registry import create_backbone

CONFIG_KEY = "visual_token_encoder"  # of an LMM's config: its encoder's
PARTS = {
    f"ssmvid.lmm.{name}": part
    for name, part in vars(ssmvid.lmm).items()
    if isinstance(part, type) and issubclass(part, Reducer) and part not in (Reducer, Connector)
}


class VisualTokenEncoderConfig(PretrainedConfig):
    """A backbone by registry name, and a connector as in `hydra_configs/connector/`.

    Args:
        backbone: registry name.
        backbone_options: keywords of `ssmvid.create_model`, without `pretrained`; there is no classifier unless
            `num_classes` says so.
        connector: `_target_`, a public path of `ssmvid.lmm`, beside its keywords; `dim` is the backbone's unless given.
        clip_frames: as `VisualTokenEncoder` takes it.

    >>> VisualTokenEncoderConfig(
    ...     backbone="multiscan_tiny", connector={"_target_": "ssmvid.lmm.Storm", "llm_dim": 896, "causal": True}
    ... )
    """

    model_type = "ssmvid_visual_tokens"

    def __init__(
        self,
        backbone: str = "multiscan_tiny",
        backbone_options: Mapping[str, Any] | None = None,
        connector: Mapping[str, Any] | None = None,
        clip_frames: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.backbone = backbone
        self.backbone_options = _plain(backbone_options or {})
        self.connector = _plain(connector or {})
        self.clip_frames = clip_frames
        super().__init__(**kwargs)

    def build(self) -> VisualTokenEncoder:
        """A fresh encoder.

        Raises:
            ValueError: a name is unknown, or `pretrained` is among the backbone's options.
            TypeError: an option is unknown.
        """
        if "pretrained" in self.backbone_options:
            raise ValueError(
                "VisualTokenEncoderConfig: backbone_options must not have 'pretrained', as weights come with the "
                "model's own file: load them into `model.encoder.backbone` by load_state_dict"
            )
        backbone = create_backbone(self.backbone, **{"num_classes": 0} | self.backbone_options)
        connector = from_config({"dim": backbone.num_features} | self.connector, PARTS)
        if not isinstance(connector, Connector):
            raise ValueError(f"VisualTokenEncoderConfig: connector must name a Connector, got {self.connector}")
        return VisualTokenEncoder(backbone, connector, clip_frames=self.clip_frames)


def _plain(value: Any) -> Any:
    """Mappings and sequences of any kind (OmegaConf's, tuples) as JSON gives them back."""
    if isinstance(value, Mapping):
        return {key: _plain(own) for key, own in value.items()}
    return [_plain(own) for own in value] if isinstance(value, list | tuple) else value
