"""Backbones to and from Hugging Face's hub, or a folder: options in config.json beside model.safetensors."""

from __future__ import annotations

from typing import Any, cast

from huggingface_hub import PyTorchModelHubMixin

from ssmvid.backbones.checkpoint import load_checkpoint


class HubModel(PyTorchModelHubMixin, library_name="ssmvid", tags=["video-classification", "timm"]):
    """Hugging Face's `save_pretrained`, `push_to_hub` and `from_pretrained`; weights that do not fit are refused."""

    def remember(self, **options: Any) -> None:
        """Note options that were changed after the model was made, for `save_pretrained`."""
        self._hub_mixin_config = {**cast(dict[str, Any], self._hub_mixin_config), **options}

    @classmethod
    def _load_as_safetensor(cls, model: Any, model_file: str, map_location: str, strict: bool) -> Any:
        load_checkpoint(model, model_file)
        return model.to(map_location).eval()

    _load_as_pickle = _load_as_safetensor
