"""A model of VLMEvalKit, which knows no plug-ins: put it into its table of models before its `run.py` looks there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from vlmeval.config import supported_VLM
from vlmeval.vlm.base import BaseModel

from ssmvid.eval.harness.answer import Answerer


class VLMEvalModel(BaseModel):
    """An LMM with an encoder. A data set's own number of frames, or rate, takes the place of these.

    Args:
        model_path: folder of the LMM and its processor.
        nframe, fps: `max_frames` and `fps` of `Answerer`, by VLMEvalKit's names.
        device: None: where the LMM is loaded.
        generation: of `Answerer.answer`.
    """

    INTERLEAVE = True
    VIDEO_LLM = True
    allowed_types = ["text", "image", "video"]  # noqa: RUF012 - read by VLMEvalKit

    def __init__(
        self,
        model_path: str,
        *,
        nframe: int | None = 64,
        fps: float | None = 1.0,
        device: str | None = None,
        **generation: Any,
    ) -> None:
        super().__init__()
        self.nframe = nframe
        self.fps = fps
        self.generation = generation
        self.answerer = Answerer.load(model_path, device=device, max_frames=nframe, fps=fps)

    def generate_inner(self, message: Sequence[dict[str, Any]], dataset: str | None = None) -> str:
        """The answer to a message: a list of a type and a value each."""
        self.answerer.max_frames, self.answerer.fps = self.nframe, self.fps
        contents = [{"type": own["type"], own["type"]: own["value"]} for own in message]
        return self.answerer.answer([{"role": "user", "content": contents}], **self.generation)

    def build_prompt(self, line: Any, dataset: str) -> NoReturn:
        """Not offered: `use_custom_prompt` says that prompts are the data set's."""
        raise NotImplementedError(f"ssmvid: prompts of {dataset} are its own")


def register(name: str, model_path: str, **options: Any) -> None:
    """Make a model known to VLMEvalKit under a name; `options` as in `VLMEvalModel`.

    Raises:
        ValueError: there is a model of that name.
    """
    if name in supported_VLM:
        raise ValueError(f"register: VLMEvalKit has a model {name!r} already: take another name")
    supported_VLM[name] = partial(VLMEvalModel, model_path=model_path, **options)
