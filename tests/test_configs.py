"""Every choice of every config group composes, and everything in it can be built."""

import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, MissingConfigException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ssmvid.data import write_videos

ROOT = Path(__file__).parents[1] / "hydra_configs"
# What a choice decides is its keys, not its size.
SMALL = {"model=vmamba_tiny": "model.depths=[1,1]", "model=mambavision_tiny": "model.depths=[1,1,2,2]"}
APART = ("ablation", "connector", "eval", "language_model")  # swept, built by tests/lmm, or below
CHOICES = sorted(f"{path.parent.name}={path.stem}" for path in ROOT.glob("*/*.yaml") if path.parent.name not in APART)
ABLATIONS = sorted(path.stem for path in (ROOT / "ablation").glob("*.yaml"))


def composed(*overrides, name="train", **how):
    with initialize_config_dir(str(ROOT), version_base="1.3"):
        return compose(name, overrides=["run=test", *overrides], **how)


def shrunk(choice):
    """Overrides that make a choice's model small."""
    if choice.startswith("hybrid="):
        return ["model=multiscan_micro"]  # the number of layers is what it decides
    heads = ["++model.head_dim=8", "++model.hybrid=MW"] if choice.startswith(("model=multiscan", "experiment=")) else []
    return ["++model.dim=16", "++" + SMALL.get(choice, "model.depth=2"), *heads]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    write_videos(root, frames=4, train_clips=2, val_clips=2)
    return root


@pytest.mark.parametrize("choice", CHOICES)
def test_choice_builds(choice, videos):
    extra = {"data=video_folder": [f"data.root={videos}"], "data=needles": ["data.size=24"]}.get(choice, [])
    cfg = composed(choice, *extra, *shrunk(choice))
    OmegaConf.to_container(cfg, resolve=True)
    train_set = instantiate(cfg.data.train)
    assert instantiate(cfg.data.val).class_names == train_set.class_names
    model = instantiate(cfg.model, num_classes=train_set.num_classes)
    assert model.num_classes == train_set.num_classes
    optimizer = instantiate(cfg.optim).build(instantiate(cfg.task, model=model).model)
    instantiate(cfg.schedule).build(optimizer, 100)
    instantiate(cfg.trainer)
    instantiate(cfg.log)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_each_run_of_an_ablation_composes(ablation):
    cfg = composed(f"ablation={ablation}", return_hydra_config=True)
    for key, values in cfg.hydra.sweeper.params.items():
        if "(" not in values:
            for value in values.split(","):
                composed(f"ablation={ablation}", f"{key}={value}")
    for callback in cfg.hydra.callbacks.values():
        assert instantiate(callback).group in cfg.hydra.sweeper.params


@pytest.mark.parametrize("task", sorted(path.stem for path in (ROOT / "eval" / "task").glob("*.yaml")))
def test_each_evaluation_is_a_function_with_these_options(task):
    with initialize_config_dir(str(ROOT / "eval"), version_base="1.3"):
        cfg = compose("eval", overrides=[f"task={task}", "checkpoint=x"])
    evaluation = instantiate(cfg.task)
    how = {name: cfg[name] for name in ("batch_size", "workers", "device", "precision", "out")}
    inspect.signature(evaluation).bind("trained", "data", **how)


def test_every_key_of_the_model_config_is_an_option_of_the_model():
    """Hydra would pass on a stale key; the model's own refusal is what finds it."""
    with pytest.raises(Exception, match=r"unknown option 'drop_pth_rate'.*did you mean drop_path_rate"):
        instantiate(composed("+model.drop_pth_rate=0.1").model)


def test_a_misspelt_option_or_choice_is_refused_by_name():
    with pytest.raises(ConfigCompositionException, match=r"optim\.learning_rate"):
        composed("optim.learning_rate=1")
    with pytest.raises(MissingConfigException, match="videomamba_micro"):
        composed("model=videomamba_mikro")


def test_the_seed_reaches_data_and_trainer():
    cfg = composed("seed=7")
    assert (cfg.data.train.seed, cfg.trainer.seed) == (7, 7)
