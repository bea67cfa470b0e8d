"""A question about a clip, answered in one word."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssmvid.backbones import Backbone
from ssmvid.lmm import Connector, LanguageModel, VideoLanguageModel, VisualTokenEncoder
from ssmvid.parallel import refuse_context


class Needle(nn.Module):
    """Frames to soft tokens, which a language model reads before the question; cross entropy of the answer.

    Args:
        model: the backbone; its classifier is taken off.
        connector: made for the backbone's `num_features`.
        language_model: its first words are the answers.
        answers: how many; the next word is chosen among them, as among the options of a multiple choice.
        clip_frames: as of `VisualTokenEncoder`: clips longer than that go through the backbone in parts.
        blind: frames are black: the control, which must stay at chance.
    """

    def __init__(
        self,
        model: Backbone,
        *,
        connector: Connector,
        language_model: LanguageModel,
        answers: int,
        clip_frames: int | None,
        blind: bool = False,
    ) -> None:
        super().__init__()
        model.reset_classifier(0)
        self.model = VideoLanguageModel(VisualTokenEncoder(model, connector, clip_frames=clip_frames), language_model)
        self.answers = answers
        self.blind = blind

    def forward(self, frames: Tensor, labels: Tensor, questions: Tensor) -> dict[str, Tensor]:
        """The mean loss over the batch, and the logits it was computed from.

        Args:
            frames: (b, c, T, H, W), float.
            labels: (b,), int64: the word that answers.
            questions: (b, q), int64.

        Returns: {"loss": (), "logits": (b, answers)}.

        Raises:
            ValueError: clips lie on several ranks.
        """
        refuse_context("Needle")
        logits = self.model(torch.zeros_like(frames) if self.blind else frames, questions)[:, : self.answers]
        return {"loss": F.cross_entropy(logits.float(), labels), "logits": logits}
