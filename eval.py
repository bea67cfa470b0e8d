"""Evaluate a trained run: one table, one JSON row.

python eval.py checkpoint=outputs/NAME                                  # its best checkpoint
python eval.py checkpoint=outputs/NAME/checkpoints/step_00000120        # this one
python eval.py checkpoint=outputs/NAME +data.root=DIR                   # on other data with the same classes
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from ssmvid.engine import plain_refusals
from ssmvid.eval import build_data, evaluate, restore
from ssmvid_kernels import use_backend


@hydra.main(version_base="1.3", config_path="hydra_configs", config_name="eval")
@plain_refusals()
def main(cfg: DictConfig) -> float:
    trained = restore(Path(cfg.checkpoint))
    dataset = build_data({**trained.config["data"][cfg.split], **cfg.data})
    with use_backend(cfg.backend):
        row = evaluate(
            trained,
            dataset,
            **{name: cfg[name] for name in ("batch_size", "workers", "device", "precision")},
            out=Path(cfg.checkpoint) / cfg.out,
        )
    return row["top1"]


if __name__ == "__main__":
    main()
