"""Vamba: a language model that sees video tokens through cross-attention, each layer after another Mamba-2."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmvid.blocks import NORM_EPS
from ssmvid.mixers import Attention, Mamba2, MambaState
from ssmvid.scan import Grid, ScanPattern

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


class Watched(NamedTuple):
    """What the layers keep of a video: its keys and values and, between two parts of it, the state of their Mamba-2.

    `keys`, `values`: of each layer, (b, heads of them, m, p). `mask` (b, m): False where a video is padded.
    `states`: of each layer but the last.
    """

    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor
    states: list[MambaState]


class CrossAttention(nn.Module):
    """Text attends to video, by copies of a self-attention's projections; no positions are added.

    Args:
        attention: a mixer of ours, or a module of Hugging Face's with q_proj, k_proj, v_proj, o_proj and head_dim.

    Raises:
        TypeError: it is neither, or has more parameters than those.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        if isinstance(attention, Attention):
            dim = attention.out_proj.in_features
            weights = [*attention.in_proj.weight.detach().chunk(3), attention.out_proj.weight.detach()]
            projections: list[nn.Module] = [nn.Linear(dim, dim, bias=False) for _ in PROJECTIONS]
            for linear, weight in zip(projections, weights):
                linear.weight = nn.Parameter(weight.clone())
        else:
            names = {name for name, _ in attention.named_children()}
            if names != set(PROJECTIONS) or not hasattr(attention, "head_dim"):
                raise TypeError(
                    f"Vamba: {type(attention).__name__} must have head_dim and {', '.join(PROJECTIONS)} alone, as "
                    f"Qwen2's and Llama's attention has, got {', '.join(sorted(names))}"
                )
            projections = [copy.deepcopy(attention.get_submodule(name)).requires_grad_() for name in PROJECTIONS]
        self.head_dim = cast(int, attention.head_dim)
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (cast(nn.Linear, own) for own in projections)

    def keys_values(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Video tokens (b, m, dim) as keys and values (b, their heads, m, p)."""
        return self._heads(self.k_proj(video)), self._heads(self.v_proj(video))

    def forward(self, text: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Text (b, l, dim) to the same, of keys and values that `mask` (b, m) leaves."""
        mask = mask if mask is None else mask[:, None, None]
        y = F.scaled_dot_product_attention(self._heads(self.q_proj(text)), k, v, attn_mask=mask, enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).flatten(2))

    def _heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class MixedAttention(nn.Module):
    """Stands for a decoder layer's self-attention: `alpha * self-attention + (1 - alpha) * cross-attention`.

    Args:
        attention: the layer's self-attention; what it takes and gives is not changed.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.self_attn = attention
        self.cross_attn = CrossAttention(attention)
        self.alpha = nn.Parameter(self.cross_attn.q_proj.weight.new_full((1,), 0.5))
        self.watched: tuple[Tensor, Tensor, Tensor | None] | None = None  # keys, values, mask

    def forward(self, hidden_states: Tensor, *args: Any, **options: Any) -> Any:
        """As the self-attention; where it gives a tuple, the first is mixed."""
        own = self.self_attn(hidden_states, *args, **options)
        if isinstance(own, tuple):
            return self._mixed(hidden_states, own[0]), *own[1:]
        return self._mixed(hidden_states, own)

    def init_state(self, batch: int, grid: Grid, prefix: int = 0) -> Any:
        """That of the self-attention, a mixer of ours."""
        return self._mixer.init_state(batch, grid, prefix)

    def step(self, tokens: Tensor, grid: Grid, state: Any) -> tuple[Tensor, Any]:
        """`forward` on the next tokens of a stream of text."""
        own, state = self._mixer.step(tokens, grid, state)
        return self._mixed(tokens, own), state

    @property
    def _mixer(self) -> Attention:
        assert isinstance(self.self_attn, Attention)
        return self.self_attn

    def _mixed(self, hidden: Tensor, own: Tensor) -> Tensor:
        if self.watched is None:
            raise RuntimeError("Vamba: no video is watched: call the language model inside `with vamba.watching(...)`")
        with torch.no_grad():
            self.alpha.clamp_(0, 1)
        return self.alpha * own + (1 - self.alpha) * self.cross_attn(hidden, *self.watched)


class VideoLayer(nn.Module):
    """`video += mamba2(norm(video))`, causal token by token."""

    def __init__(self, dim: int, **sizes: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim, eps=NORM_EPS)
        self.mixer = Mamba2(dim, pattern=ScanPattern.parse(["thw"], causal_frames=1), **sizes)

    def step(self, video: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """The next tokens (b, m, dim) of a video, and the state after them."""
        mixed, state = self.mixer.step(self.norm(video), Grid(video.shape[1], 1, 1), state)
        return video + mixed, state


class Vamba(nn.Module):
    """A language model whose attention layers also attend to a video, which passes through a Mamba-2 a layer.

    Video tokens are not among the text: layer i's text attends to what i Mamba-2 layers made of them, so a token of
    text costs what the video is long, and a token of video what it is wide. Of our own models those of letters `A` and
    `W` are taken, of Hugging Face's all of Qwen2's and Llama's form. They are changed in place; with `alpha` 1
    everywhere the language model is what it was. After the last layer nothing reads the video: it has no Mamba-2, where
    the released code computes one in vain.

    Args:
        language_model: a `LanguageModel` with attention, or Hugging Face's.
        state_size: n of the Mamba-2 layers.
        expand: their inner width over the model's.
        head_dim: channels of a head of theirs.

    Raises:
        ValueError: there is no attention layer.
        TypeError: one cannot be taken.

    Source: Ren et al. 2025 (Vamba), arXiv:2503.11579, section 3, and its released code, whose training leaves positions
        and norm of the cross-attention off.

    >>> vamba = Vamba(model)
    >>> logits = vamba(video, ids)                  # video (b, m, dim): soft tokens
    >>> with vamba.watching(vamba.read(video)):
    ...     words = model.generate(ids, max_new_tokens=32)
    """

    def __init__(
        self, language_model: nn.Module, *, state_size: int = 128, expand: int = 2, head_dim: int = 64
    ) -> None:
        super().__init__()
        self.language_model = language_model
        self.attentions = _mix_in_place(language_model)
        if not self.attentions:
            raise ValueError(
                "Vamba: the language model has no attention layer with q_proj, k_proj, v_proj, o_proj, and no letter A "
                "or W in its hybrid pattern"
            )
        weight = self.attentions[0].cross_attn.q_proj.weight
        self.layers = nn.ModuleList(
            VideoLayer(weight.shape[1], state_size=state_size, expand=expand, head_dim=head_dim)
            for _ in self.attentions[1:]
        ).to(weight)
        with torch.no_grad():
            for layer in self._video_layers:
                layer.mixer.out_proj.weight.div_(math.sqrt(len(self.attentions)))

    def forward(self, video: Tensor, *args: Any, mask: Tensor | None = None, **options: Any) -> Any:
        """What the language model gives for its own arguments, with a video before its eyes.

        Args:
            video: soft tokens (b, m, dim).
            mask: (b, m), False where they are padded, at their end.
            args, options: of the language model.
        """
        with self.watching(self.read(video, mask)):
            return self.language_model(*args, **options)

    def read(self, video: Tensor, mask: Tensor | None = None) -> Watched:
        """What the layers keep of whole videos.

        Raises:
            ValueError: a video has no token.
        """
        watched = self.step(video, self.init_state(len(video)))
        if mask is not None:
            watched = watched._replace(mask=mask)
        if not watched.mask.any(1).all():
            raise ValueError(f"Vamba: each video must have a token, got {watched.mask.sum(1).tolist()}")
        return watched

    def init_state(self, batch: int) -> Watched:
        """What there is before the first part of `batch` videos."""
        attention = self.attentions[0].cross_attn
        weight = attention.k_proj.weight
        none = weight.new_empty(batch, len(weight) // attention.head_dim, 0, attention.head_dim)
        states = [layer.mixer.init_state(batch, Grid(1, 1, 1)) for layer in self._video_layers]
        mask = torch.ones(batch, 0, dtype=torch.bool, device=weight.device)
        return Watched([none] * len(self.attentions), [none] * len(self.attentions), mask, states)

    def step(self, video: Tensor, watched: Watched) -> Watched:
        """The same after the next tokens (b, m, dim) of videos without padding: keys and values grow by them."""
        keys, values, states = [], [], []
        for i, attention in enumerate(self.attentions):
            k, v = attention.cross_attn.keys_values(video)
            keys.append(torch.cat([watched.keys[i], k], dim=2))
            values.append(torch.cat([watched.values[i], v], dim=2))
            if i < len(self.layers):
                video, state = self._video_layers[i].step(video, watched.states[i])
                states.append(state)
        mask = F.pad(watched.mask, (0, video.shape[1]), value=True)
        return Watched(keys, values, mask, states)

    @contextmanager
    def watching(self, watched: Watched) -> Iterator[None]:
        """Inside it, the language model sees the video, whoever calls it, and in a backward that recomputes too."""
        mask = None if watched.mask.all() else watched.mask
        for attention, k, v in zip(self.attentions, watched.keys, watched.values, strict=True):
            attention.watched = (k, v, mask)
        try:
            yield
        finally:
            for attention in self.attentions:
                attention.watched = None

    @property
    def _video_layers(self) -> list[VideoLayer]:
        return [layer for layer in self.layers if isinstance(layer, VideoLayer)]


def _mix_in_place(model: nn.Module) -> list[MixedAttention]:
    """Put a `MixedAttention` in the place of each attention layer, in order; those."""
    mixed = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Attention) or hasattr(child, "o_proj"):
                mixed.append(MixedAttention(child))
                setattr(parent, name, mixed[-1])
    return mixed
