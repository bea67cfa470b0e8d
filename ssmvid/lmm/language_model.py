"""A Mamba-2 language model that reads soft tokens in place of word embeddings, with a state of constant size."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssmvid.blocks import NORM_EPS, Block, add_and_norm
from ssmvid.mixers import State, hybrid_mixers, hybrid_pattern
from ssmvid.scan import Grid

EMBEDDING_STD = 0.02


class LanguageBackbone(nn.Module):
    """Word embeddings, blocks and a final norm. A sequence is a grid of one token a frame, causal token by token."""

    def __init__(self, vocab: int, dim: int, mixers: list[nn.Module]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, dim)
        self.layers = nn.ModuleList(Block(mixer, norm=nn.RMSNorm(dim, eps=NORM_EPS)) for mixer in mixers)
        self.norm_f = nn.RMSNorm(dim, eps=NORM_EPS)
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD)
        with torch.no_grad():
            for name, weight in self.layers.named_parameters():
                if name.endswith("in_proj.weight"):  # as released: by width, where the mixers' own 0.02 is for wide ones
                    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
                elif name.endswith("out_proj.weight"):
                    weight.div_(math.sqrt(len(mixers)))

    def forward(self, tokens: Tensor) -> Tensor:
        """Word ids (b, l) or embeddings (b, l, dim) to normed tokens (b, l, dim)."""
        tokens, residual = self._embedded(tokens), None
        for layer in self.layers:
            tokens, residual = layer(tokens, residual, Grid(tokens.shape[1], 1, 1))
        return add_and_norm(tokens, residual, self.norm_f)[0]

    def init_state(self, batch: int) -> list[State]:
        """The state before the first token, one a layer."""
        return [layer.init_state(batch, Grid(1, 1, 1)) for layer in self._blocks]

    def step(self, tokens: Tensor, state: list[State]) -> tuple[Tensor, list[State]]:
        """`forward` on the next tokens, on from `state`, and the state after them."""
        tokens, residual, after = self._embedded(tokens), None, []
        for layer, before in zip(self._blocks, state, strict=True):
            tokens, residual, last = layer.step(tokens, residual, Grid(tokens.shape[1], 1, 1), before)
            after.append(last)
        return add_and_norm(tokens, residual, self.norm_f)[0], after

    @property
    def _blocks(self) -> list[Block]:
        return [layer for layer in self.layers if isinstance(layer, Block)]

    def _embedded(self, tokens: Tensor) -> Tensor:
        return tokens if tokens.is_floating_point() else self.embedding(tokens)


class LanguageModel(nn.Module):
    """A causal language model: Mamba-2 layers and a share of attention, word embeddings tied to the head.

    Of scans only, keys and numerics are those of mamba_ssm's MambaLMHeadModel with Mamba-2: its published checkpoints
    load as they are. Word embeddings and soft tokens are read alike: `splice` puts the one among the other.

    Args:
        vocab_size: words.
        dim: width of a token.
        depth: layers.
        hybrid: their mixers, by letter, again and again over depth; see `ssmvid.mixers.hybrid_pattern`.
        window: tokens that `W` layers see, the own one among them.
        state_size: n of the Mamba-2 layers.
        expand: their inner width over `dim`.
        head_dim: channels of a head.
        vocab_multiple: the table has unused words up to a multiple of it.

    Raises:
        ValueError: sizes do not fit the heads, or a letter is unknown.

    Source: Dao & Gu 2024 (Mamba-2), arXiv:2405.21060, section 9.2, and its released code; reading video tokens: Lee et
        al. 2024 (Video-Ma2mba), arXiv:2411.19460, section 3.4.

    >>> model = LanguageModel(vocab_size=50277, dim=768, depth=24)
    >>> words = model.generate(model.splice(ids, soft.tokens, placeholder=50276), max_new_tokens=32)
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        dim: int,
        depth: int,
        hybrid: str = "M",
        window: int | None = None,
        state_size: int = 128,
        expand: int = 2,
        head_dim: int = 64,
        vocab_multiple: int = 16,
    ) -> None:
        super().__init__()
        mixers = hybrid_mixers(
            hybrid_pattern(hybrid, depth),
            dim,
            orders=["thw"],
            causal_frames=1,
            window=window,
            state_size=state_size,
            expand=expand,
            head_dim=head_dim,
        )
        vocab = -(-vocab_size // vocab_multiple) * vocab_multiple
        self.dim = dim
        self.backbone = LanguageBackbone(vocab, dim, mixers)
        self.lm_head = nn.Linear(dim, vocab, bias=False)
        self.lm_head.weight = self.backbone.embedding.weight

    def splice(self, ids: Tensor, soft: Tensor, *, placeholder: int, mask: Tensor | None = None) -> Tensor:
        """Word embeddings with soft tokens in place of a placeholder's.

        Args:
            ids: (b, l).
            soft: (b, m, dim), in order for the placeholders of each row.
            placeholder: the id whose places are taken.
            mask: (b, m), False where `soft` is padded; None: all are taken.

        Returns:
            (b, l, dim).

        Raises:
            ValueError: a row has not as many placeholders as soft tokens.
        """
        places = ids == placeholder
        taken = soft.new_ones(soft.shape[:2], dtype=torch.bool) if mask is None else mask
        wanted, got = places.sum(1).tolist(), taken.sum(1).tolist()
        if wanted != got:
            raise ValueError(
                f"LanguageModel: rows of ids hold {wanted} placeholders ({placeholder}), their clips have {got} soft "
                "tokens: repeat the placeholder num_tokens times"
            )
        embedded = self.backbone.embedding(ids)
        return embedded.masked_scatter(places[..., None], soft[taken].to(embedded))

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits of each next word.

        Args:
            tokens: word ids (b, l), or embeddings (b, l, dim).

        Returns:
            (b, l, words of the table).
        """
        return self.lm_head(self.backbone(tokens))

    def init_state(self, batch: int) -> list[State]:
        """The state before the first token of `batch` sequences, one a layer, of constant size.

        Raises:
            ValueError: there is an `A` layer, whose state would grow.
        """
        return self.backbone.init_state(batch)

    def step(self, tokens: Tensor, state: list[State]) -> tuple[Tensor, list[State]]:
        """`forward` on the next tokens, one or many, on from `state`, and the state after them."""
        hidden, state = self.backbone.step(tokens, state)
        return self.lm_head(hidden), state

    @torch.no_grad()
    def generate(
        self, prompt: Tensor, *, max_new_tokens: int, eos: int | None = None, state: list[State] | None = None
    ) -> Tensor:
        """The likeliest next word, again and again.

        Args:
            prompt: word ids (b, l) or embeddings (b, l, dim), l >= 1.
            max_new_tokens: words at most.
            eos: the word that ends a row, which is then filled up with it; None: nothing does.
            state: after what was read before the prompt; None: nothing was.

        Returns:
            The new ids alone, (b, at most max_new_tokens).

        Raises:
            ValueError: the prompt is empty, or there is an `A` layer.
        """
        if not prompt.shape[1]:
            raise ValueError(f"LanguageModel: a prompt holds at least one token, got {tuple(prompt.shape)}")
        state, words = self.init_state(len(prompt)) if state is None else state, []
        ended = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
        for _ in range(max_new_tokens):
            hidden, state = self.backbone.step(prompt, state)
            word = self.lm_head(hidden[:, -1]).argmax(-1)
            if eos is not None:
                word = word.masked_fill(ended, eos)
                ended = ended | (word == eos)
            words.append(word)
            if ended.all():
                break
            prompt = word[:, None]
        return torch.stack(words, dim=1) if words else prompt.new_empty(len(prompt), 0, dtype=torch.int64)
