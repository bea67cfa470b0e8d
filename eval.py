"""Evaluate a trained run: one table, one JSON row; of needles one row a cell, and a heat map.

python eval.py checkpoint=outputs/NAME                                  # its best checkpoint
python eval.py checkpoint=outputs/NAME/checkpoints/step_00000120        # this one
python eval.py checkpoint=outputs/NAME +data.root=DIR                   # on other data with the same classes
python eval.py checkpoint=outputs/NAME task=vniah                       # needles: accuracy over clip length and depth
"""

from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from ssmvid.engine import plain_refusals
from ssmvid.eval import restore
from ssmvid_kernels import use_backend


@hydra.main(version_base="1.3", config_path="hydra_configs/eval", config_name="eval")
@plain_refusals()
def main(cfg: DictConfig) -> float:
    trained = restore(Path(cfg.checkpoint))
    data = {**trained.config["data"][cfg.split], **cfg.data}
    how = {name: cfg[name] for name in ("batch_size", "workers", "device", "precision")}
    with use_backend(cfg.backend):
        row = instantiate(cfg.task)(trained, data, **how, out=Path(cfg.checkpoint) / cfg.out)
    return row["top1"]


if __name__ == "__main__":
    main()
