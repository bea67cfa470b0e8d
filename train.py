"""Train a model on a task.

python train.py                                  # a small VideoMamba on embedded data, on CPU
python train.py data=video_folder data.root=DIR  # on real video files
python train.py run=NAME                         # started again, it continues where it stopped
torchrun --nproc_per_node=2 train.py run=NAME    # several ranks
python train.py -m ablation=scan_order           # a sweep, and its table in docs/
python train.py --cfg job                        # every key
"""

import os
from pathlib import Path

# Before torch is loaded: OpenMP threads that wait by spinning take the cores from the scans' threads, and from others.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ssmvid.engine import plain_refusals, quiet_other_ranks, seed_everything
from ssmvid_kernels import use_backend


@hydra.main(version_base="1.3", config_path="hydra_configs", config_name="train")
@plain_refusals()
def main(cfg: DictConfig) -> float:
    seed_everything(cfg.seed)
    folder = Path(HydraConfig.get().runtime.output_dir)
    config = OmegaConf.to_container(cfg, resolve=True)
    train_set, val_set = instantiate(cfg.data.train), instantiate(cfg.data.val)
    task = instantiate(cfg.task, model=instantiate(cfg.model, num_classes=train_set.num_classes))
    parts = {name: instantiate(cfg[name]) for name in ("optim", "schedule")} | {
        "trackers": instantiate(cfg.log).values()
    }
    with use_backend(cfg.backend):
        run = {"folder": folder, "config": config, "resume": cfg.resume}
        numbers = instantiate(cfg.trainer).fit(task, train_set, val_set, **parts, **run)
    return numbers[cfg.metric]


if __name__ == "__main__":
    quiet_other_ranks()
    main()
