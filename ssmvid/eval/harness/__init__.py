"""An LMM with an encoder inside the harnesses that others' numbers come from: lmms-eval and VLMEvalKit."""

from __future__ import annotations

from typing import Any


def lmms_eval_manifest() -> Any:
    """What lmms-eval is told of us, by the entry point `lmms_eval.models`: `--model ssmvid`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="ssmvid", chat_class_path="ssmvid.eval.harness.lmms_eval.LmmsEvalModel")
