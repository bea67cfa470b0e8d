import importlib
from dataclasses import dataclass

from lmms_eval.api.model import lmms


@dataclass(frozen=True)
class ModelManifest:
    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None
    aliases: tuple = ()


class ModelRegistryV2:
    def __init__(self):
        self._manifests = {}

    def register_manifest(self, manifest, *, overwrite=False):
        self._manifests[manifest.model_id] = manifest

    def get_model_class(self, model_name, force_simple=False):
        module, name = self._manifests[model_name].chat_class_path.rsplit(".", 1)
        found = getattr(importlib.import_module(module), name)
        if not issubclass(found, lmms) or found.is_simple:
            raise TypeError(f"{found} is no chat model")
        return found
