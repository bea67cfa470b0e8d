"""VideoMamba: bidirectional state-space blocks over all tubelets of a clip, a class token at their head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ssmvid.backbones.isotropic import Isotropic
from ssmvid.mixers import Mamba
from ssmvid.scan import Merge, patterns_by_layer


class VideoMamba(Isotropic):
    """Tokens of a clip or an image, and logits from its class token.

    The attribute names are those of the released checkpoints, which load with `strict=True`. Position tables are
    resized on the fly to a clip of any size. `num_frames=1` makes the image model, which has no temporal table.

    Args:
        dim: width of a token.
        depth: blocks.
        num_classes: 0 for no classifier.
        num_frames: frames T of the clips the temporal table is made for.
        img_size: H and W, or both, that the spatial table is made for.
        tubelet: frames, rows and columns of a token.
        in_chans: colour channels c.
        state_size: n of the scans.
        orders: the scan orders of every block, or several such lists for `schedule='alternate'`. Two orders a block
            are the released model; of the orders, only their number changes the parameters.
        schedule: which list a layer takes: 'same', 'alternate' or 'halves'.
        merge: how the outputs along a block's orders merge: 'sum', 'mean', 'concat' or 'gated'; as in `ScanPattern`.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; the others' grow linearly towards it.

    Raises:
        ValueError: the sizes are no multiple of the tubelet, or an order, schedule or merge is unknown or does not fit.

    Source: Li et al. 2024, arXiv:2403.06977, section 3 and its released code (Apache-2.0).
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        num_classes: int = 400,
        num_frames: int = 8,
        img_size: int | Sequence[int] = 224,
        tubelet: Sequence[int] = (1, 16, 16),
        in_chans: int = 3,
        state_size: int = 16,
        orders: Sequence[str] | Sequence[Sequence[str]] = ("thw", "thw+rev"),
        schedule: str = "same",
        merge: Merge = "sum",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        patterns = patterns_by_layer(orders, schedule, depth, merge)
        super().__init__(
            mixers=[Mamba(dim, pattern=pattern, state_size=state_size) for pattern in patterns],
            dim=dim,
            num_classes=num_classes,
            num_frames=num_frames,
            img_size=img_size,
            tubelet=tubelet,
            in_chans=in_chans,
            prefix=1,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )

    @staticmethod
    def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of a masked-pretraining checkpoint the encoder, its final norm under the name it has here."""
        if not any(key.startswith("clip_decoder.") for key in state):
            return dict(state)
        encoder = {key: value for key, value in state.items() if not key.startswith("clip_decoder.")}
        return {"norm_f.weight" if key == "norm.weight" else key: value for key, value in encoder.items()}
