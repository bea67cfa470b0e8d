"""Conversations about video files, answered by an LMM with an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image
from torch import Tensor

from ssmvid.data import frame_times, read_frames, sample_budget, sample_uniform

# Of what a harness asks of a generation, what is passed on.
GENERATION = ("max_new_tokens", "do_sample", "temperature", "top_p", "num_beams")
MAX_NEW_TOKENS = 512


class Answerer:
    """An LMM and its processor, asked one conversation at a time.

    Args:
        lmm: with an encoder attached, as `ssmvid.lmm.hf.load` gives it.
        processor: its `VisualTokenProcessor`, which has a chat template, or its tokenizer has.
        max_frames: frames of a video at most; None: as many as there are at `fps`.
        fps: frames a second; where they were more than `max_frames`, and where it is None, so many of the whole video.

    Raises:
        ValueError: both numbers are None.
    """

    def __init__(self, lmm: Any, processor: Any, *, max_frames: int | None = 64, fps: float | None = 1.0) -> None:
        self.lmm = lmm.eval()
        self.processor = processor
        self.max_frames = max_frames
        self.fps = fps
        self._expect_a_limit()

    @classmethod
    def load(cls, folder: str, *, device: str | None = None, dtype: str = "auto", **frames: Any) -> Answerer:
        """From where `save_pretrained` of model and processor wrote them; `frames` as above.

        Raises:
            ImportError: transformers is not installed.
            ValueError: no encoder is attached to what is there.
        """
        from ssmvid.lmm.hf import VisualTokenProcessor, load

        lmm = load(folder, dtype=dtype)
        return cls(lmm if device is None else lmm.to(device), VisualTokenProcessor.from_pretrained(folder), **frames)

    @torch.no_grad()
    def answer(self, conversation: Sequence[Mapping[str, Any]], *, until: Sequence[str] = (), **generation: Any) -> str:
        """What the LMM says next.

        Args:
            conversation: messages as chat templates take them: a role, and a list of contents of type 'text', 'image'
                (a path or a PIL image) or 'video' (a path; `video_start` and `video_end` in seconds).
            until: the answer ends before the first of these.
            generation: of transformers' `generate`, those of `GENERATION`; a temperature of 0 is greedy.

        Raises:
            ValueError: there is no chat template.
            VideoError: a file is no usable video.
        """
        contents = [own for message in conversation for own in message["content"]]
        videos = [self._video(own) for own in contents if own["type"] == "video"]
        images = [_image(own["image"]) for own in contents if own["type"] == "image"]
        text = self.processor.tokenizer.apply_chat_template(
            list(conversation),
            chat_template=getattr(self.processor, "chat_template", None),
            tokenize=False,
            add_generation_prompt=True,
        )
        inputs = self.processor(
            text, [frames for frames, _ in videos], images, fps=[rate for _, rate in videos], add_special_tokens=False
        )
        ids = self.lmm.generate(**self._placed(inputs), **_settings(generation))
        said = self.processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for end in until:
            said = said.split(end)[0]
        return said.strip()

    def _expect_a_limit(self) -> None:
        if self.max_frames is None and self.fps is None:
            raise ValueError("Answerer: give max_frames or fps, got None for both")

    def _video(self, content: Mapping[str, Any]) -> tuple[Tensor, float]:
        """Frames uint8 (T, c, H, W) of a video, and how many of them there are a second."""
        self._expect_a_limit()
        path, start, end = content["video"], content.get("video_start") or 0.0, content.get("video_end")
        times = frame_times(path)
        shown = times - times[0]
        (among,) = np.nonzero((shown >= start) & (shown <= (shown[-1] if end is None else end)))
        if not len(among):
            raise ValueError(f"Answerer: {path} shows nothing between {start} and {end} s, it lasts {shown[-1]} s")
        most = len(among) if self.max_frames is None else self.max_frames
        if self.fps is None:
            chosen = among[sample_uniform(len(among), frames=most, place=0.5)]
        else:
            chosen = among[sample_budget(times[among], fps=self.fps, max_frames=most)]
        seconds = float(times[chosen[-1]] - times[chosen[0]])
        rate = (len(chosen) - 1) / seconds if seconds else self.fps or 1.0
        return read_frames(path, chosen.tolist()), rate

    def _placed(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """On the LMM's device, pixels in its dtype."""
        device, dtype = self.lmm.device, self.lmm.dtype
        return {
            key: own.to(device) if isinstance(own, Tensor) else [pixels.to(device, dtype) for pixels in own]
            for key, own in inputs.items()
        }


def _image(image: str | Image.Image) -> Tensor:
    """uint8 (c, H, W)."""
    return TF.pil_to_tensor((Image.open(image) if isinstance(image, str) else image).convert("RGB"))


def _settings(generation: Mapping[str, Any]) -> dict[str, Any]:
    settings = {"max_new_tokens": MAX_NEW_TOKENS} | {key: own for key, own in generation.items() if key in GENERATION}
    settings.setdefault("do_sample", bool(settings.get("temperature")))
    if not settings["do_sample"]:  # transformers warns of what greedy decoding does not read
        settings = {key: own for key, own in settings.items() if key not in ("temperature", "top_p")}
    return settings
