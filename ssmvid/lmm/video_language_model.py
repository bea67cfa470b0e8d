"""A video and a question in, the next word out: soft tokens before word embeddings in one sequence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssmvid.lmm.encoder import VisualTokenEncoder
from ssmvid.lmm.language_model import LanguageModel


class VideoLanguageModel(nn.Module):
    """A language model that reads the soft tokens of a clip, then the words of a question.

    Args:
        encoder: frames to soft tokens of the language model's width.
        language_model: reads them.

    Raises:
        ValueError: the widths differ, or clips of one size can have different numbers of soft tokens.

    Source: Lee et al. 2024 (Video-Ma2mba), arXiv:2411.19460, section 3.4.
    """

    def __init__(self, encoder: VisualTokenEncoder, language_model: LanguageModel) -> None:
        super().__init__()
        connector = encoder.connector
        if connector.llm_dim != language_model.dim:
            raise ValueError(
                f"VideoLanguageModel: soft tokens of width {connector.llm_dim}, a language model of width "
                f"{language_model.dim}: make the connector with llm_dim={language_model.dim}"
            )
        if not connector.exact:
            raise ValueError(
                f"VideoLanguageModel: {type(connector).__name__} gives clips of one size different numbers of soft "
                "tokens, and padding would stand before the question: take another connector"
            )
        self.encoder = encoder
        self.language_model = language_model

    def forward(self, frames: Tensor, questions: Tensor) -> Tensor:
        """The logits of the word after the question.

        Args:
            frames: (b, c, T, H, W), normalised.
            questions: word ids (b, q), q >= 1.

        Returns:
            (b, words of the language model's table).
        """
        words = self.language_model.backbone.embedding(questions)
        hidden = self.language_model.backbone(torch.cat([self.encoder(frames).tokens, words], dim=1))
        return self.language_model.lm_head(hidden[:, -1])

    def no_weight_decay(self) -> set[str]:
        """What the parts say of their parameters."""
        names = set()
        for prefix, module in self.named_modules():
            if module is not self and hasattr(module, "no_weight_decay"):
                names |= {f"{prefix}.{name}" for name in module.no_weight_decay()}
        return names
