"""Prompts and frames to what an LMM with an encoder takes: as many placeholders as there will be soft tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torchvision.transforms.v2.functional as TF
from torch import Tensor
from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

from ssmvid.lmm.hf.config import CONFIG_KEY, VisualTokenEncoderConfig
from ssmvid.lmm.hf.model import VisualTokenEncoderModel
from ssmvid.lmm.hf.plug import PLUG_POINTS
from ssmvid.lmm.hf.soft_inputs import ONE_PLACEHOLDER


class VisualTokenProcessor(ProcessorMixin):
    """Prompts with one placeholder a video or image, and their frames, to the inputs of an LMM with an encoder.

    Args:
        tokenizer: the LMM's.
        encoder: the encoder's configuration, as data.
        lmm: the LMM's `model_type`.
        video_token, image_token: what stands for a video, and for an image, in a prompt.
        size: H and W that frames are resized to; None: they are taken as they are.
        chat_template: as every processor of transformers has it.

    >>> processor = VisualTokenProcessor.of(lmm, tokenizer, size=(224, 224))
    >>> inputs = processor("<video> What happens?", videos=[frames], fps=2)  # uint8 (T, c, H, W)
    >>> lmm.generate(**inputs)
    """

    attributes = ["tokenizer"]  # noqa: RUF012 - read by transformers
    tokenizer_class = "AutoTokenizer"

    def __init__(
        self,
        tokenizer: Any,
        encoder: dict[str, Any],
        lmm: str,
        video_token: str,
        image_token: str,
        size: Sequence[int] | None = None,
        chat_template: str | None = None,
    ) -> None:
        super().__init__(tokenizer, chat_template=chat_template)
        self.encoder = dict(encoder)
        self.lmm = lmm
        self.video_token = video_token
        self.image_token = image_token
        self.size = None if size is None else list(size)
        with torch.device("meta"):  # of the encoder only its sizes are asked
            self._model = VisualTokenEncoderModel(VisualTokenEncoderConfig(**self.encoder))

    @classmethod
    def of(cls, lmm: PreTrainedModel, tokenizer: Any, *, size: Sequence[int] | None = None) -> VisualTokenProcessor:
        """The processor of an LMM with an encoder attached.

        Raises:
            ValueError: no encoder is attached.
        """
        if not hasattr(lmm.config, CONFIG_KEY):
            raise ValueError(f"VisualTokenProcessor: this {type(lmm).__name__} has no encoder: attach one first")
        ids = [lmm.model.placeholder(kind) for kind in ("video", "image")]
        video, image = tokenizer.convert_ids_to_tokens(ids)
        return cls(tokenizer, getattr(lmm.config, CONFIG_KEY), lmm.config.model_type, video, image, size)

    def __call__(
        self,
        text: str | Sequence[str],
        videos: Sequence[Tensor] = (),
        images: Sequence[Tensor] = (),
        *,
        fps: float | Sequence[float] | None = None,
        **options: Any,
    ) -> BatchFeature:
        """Make the inputs of a batch.

        Args:
            text: prompts, with a video token for each video and an image token for each image, in order.
            videos: uint8 (T, c, H, W), of any T, H and W. The last frame is repeated up to the backbone's tubelet.
            images: uint8 (c, H, W); each becomes a still video of one tubelet.
            fps: frames a second of the videos, or of each; needed where the LMM is told seconds.
            options: of the tokenizer, such as `padding`.

        Returns:
            `input_ids` and `attention_mask`; `pixel_values_videos` and `pixel_values`, normalised, a list of a tensor
            each; `second_per_grid_ts` where the LMM is told seconds.

        Raises:
            ValueError: placeholders and videos or images differ in number, fps is missing, or the encoder takes no
                clip of such a size.
            TypeError: frames are not uint8.
        """
        rates = list(fps) if isinstance(fps, Sequence) else [1.0 if fps is None else fps] * len(videos)
        if len(rates) != len(videos) or (videos and fps is None and PLUG_POINTS[self.lmm].mrope):
            raise ValueError(
                f"VisualTokenProcessor: fps must be the frames a second of each of {len(videos)} videos, got {fps}"
            )
        if images and videos and self.image_token == self.video_token:
            raise ValueError(f"VisualTokenProcessor: {ONE_PLACEHOLDER}")
        clips, stills = [self._pixels(own) for own in videos], [self._pixels(own[None]) for own in images]
        pieces = {self.video_token: [self._piece(clip, rate) for clip, rate in zip(clips, rates)]}
        pieces.setdefault(self.image_token, []).extend(self.image_token * self._grid(own).length for own in stills)
        data = dict(self.tokenizer(self._expanded(text, pieces), return_tensors="pt", **options))
        if clips:
            data["pixel_values_videos"] = clips
        if stills:
            data["pixel_values"] = stills
        if clips and PLUG_POINTS[self.lmm].mrope:
            data["second_per_grid_ts"] = torch.tensor([self._spacing(clip, rate) for clip, rate in zip(clips, rates)])
        return BatchFeature(data)

    def _pixels(self, frames: Tensor) -> Tensor:
        """Normalised frames (T, c, H, W), T a multiple of the tubelet's."""
        if frames.dtype != torch.uint8:
            raise TypeError(f"VisualTokenProcessor: frames must be uint8 (T, c, H, W), got {frames.dtype}")
        backbone = self._model.encoder.backbone
        short = -len(frames) % backbone.patch_embed.tubelet[0]
        frames = torch.cat([frames, frames[-1:].expand(short, -1, -1, -1)])
        if self.size is not None:
            frames = TF.resize(frames, self.size, antialias=True)
        mean, std = (list(backbone.pretrained_cfg[key]) for key in ("mean", "std"))
        return TF.normalize(TF.to_dtype(frames, torch.float32, scale=True), mean, std)

    def _grid(self, clip: Tensor) -> Any:
        return self._model.soft_grid(clip.shape[0], *clip.shape[-2:])

    def _spacing(self, clip: Tensor, rate: float) -> float:
        """Seconds from a frame of soft tokens to the next."""
        return len(clip) / self._grid(clip).t / rate

    def _piece(self, clip: Tensor, rate: float) -> str:
        """What stands in a prompt for a clip."""
        point, grid = PLUG_POINTS[self.lmm], self._grid(clip)
        tokens, piece = self.video_token * (grid.h * grid.w), ""
        for frame in range(grid.t):
            # The middle between the first and the last frame that a frame of soft tokens is made of.
            second = self._spacing(clip, rate) * (frame + 0.5) - 0.5 / rate
            piece += point.frame.format(second=second, tokens=tokens)
        return piece

    def _expanded(self, text: str | Sequence[str], pieces: Mapping[str, Sequence[str]]) -> list[str]:
        """Prompts with each placeholder's piece in its place."""
        texts = [text] if isinstance(text, str) else list(text)
        for token, own in pieces.items():
            found = sum(each.count(token) for each in texts)
            if found != len(own):
                raise ValueError(
                    f"VisualTokenProcessor: prompts must have one {token} for each of {len(own)} videos or images, "
                    f"got {found}"
                )
        before, after = map(re.escape, PLUG_POINTS[self.lmm].around)
        video, image = map(re.escape, (self.video_token, self.image_token))
        pattern = re.compile(f"(?:{before})?(?P<video>{video})(?:{after})?|(?P<image>{image})")
        left = {token: iter(own) for token, own in pieces.items()}
        return [pattern.sub(lambda found: next(left[found["video"] or found["image"]]), each) for each in texts]
