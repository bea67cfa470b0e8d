import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import ssmvid
from ssmvid.data import MovingDigits
from ssmvid.engine import CheckpointError, checkpoint
from ssmvid.eval import build_data, evaluate, restore
from ssmvid.eval.restore import TASKS
from ssmvid.from_config import from_config

CONFIGS = Path(__file__).parents[2] / "hydra_configs"
MODEL = {"name": "videomamba_tiny", "dim": 16, "depth": 1, "num_frames": 4, "img_size": 16, "tubelet": [1, 8, 8]}
DATA = {"_target_": "ssmvid.data.MovingDigits", "split": "val", "frames": 4, "size": 16, "num_clips": 20}
TASK = {"_target_": "ssmvid.tasks.Classify", "label_smoothing": 0.1, "memory": None}
NAMES = ["stride_01", "stride_03"]
HOW = {"batch_size": 8, "workers": 0, "device": "cpu", "precision": "fp32"}


NEEDLE = {
    "_target_": "ssmvid.tasks.Needle",
    "connector": {"_target_": "ssmvid.lmm.MLPConnector", "dim": 16, "llm_dim": 8}
    | {"reducer": {"_target_": "ssmvid.lmm.Pool", "stride": [1, 2, 2]}},
    "language_model": {"_target_": "ssmvid.lmm.LanguageModel", "vocab_size": 5, "dim": 8, "depth": 1, "head_dim": 4},
    "answers": 2,
    "clip_frames": 4,
}


def write(root, step, *, files=("model",), best=None, model=MODEL, names=NAMES, task=TASK):
    torch.manual_seed(step)
    net = from_config(task, TASKS, model=ssmvid.create_model(**MODEL, num_classes=2)).model
    progress = {"step": step, "best_step": best}
    documents = {
        "state": {"progress": progress},
        "class_names": names,
        "config": {"model": model, "task": task, "data": {"val": DATA}},
    }
    return checkpoint.write(root, step, {name: net.state_dict() for name in files}, documents)


@pytest.fixture
def run(tmp_path):
    for step in (10, 20, 30):
        write(tmp_path / "checkpoints", step, best=20 if step >= 20 else None)
    return tmp_path


def test_a_run_gives_its_best_checkpoint_a_checkpoint_itself(run):
    assert restore(run).step == 20
    assert restore(run / "checkpoints" / "step_00000010").step == 10
    (run / "summary.json").write_text(json.dumps({"best/step": 30}))
    assert restore(run).step == 30


def test_the_moving_average_is_what_was_validated_and_what_is_taken(run):
    write(run / "checkpoints", 40, files=("model", "ema"), best=40)
    assert restore(run).weights == "ema"


def test_the_row_holds_the_numbers_of_the_table(run, tmp_path, capsys):
    trained = restore(run)
    dataset = build_data(DATA)
    row = evaluate(trained, DATA, **HOW, out=tmp_path / "eval.jsonl")
    clips = [dataset[0, i] for i in range(20)]
    with torch.no_grad():
        answers = trained.task.model(torch.stack([clip.frames for clip in clips])).argmax(-1)
    right = sum(int(answer) == clip.label for answer, clip in zip(answers, clips, strict=True))
    assert row["top1"] == right / 20
    assert (row["n_ok"], row["n_failed"], row["step"]) == (20, 0, 20)
    assert json.loads((tmp_path / "eval.jsonl").read_text()) == row
    heads, _, cells = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()
    )
    shown = dict(zip(heads, cells, strict=True))
    assert (shown["top1"], shown["model"], shown["n_ok"]) == (f"{100 * right / 20:.2f} %", "videomamba_tiny", "20")


def test_a_task_of_parts_comes_back_with_weights_that_are_tied(tmp_path):
    trained = restore(write(tmp_path, 3, task=NEEDLE))
    torch.manual_seed(3)
    fresh = from_config(NEEDLE, TASKS, model=ssmvid.create_model(**MODEL, num_classes=2)).eval()
    clip, label, question = torch.randn(1, 3, 4, 16, 16), torch.tensor([1]), torch.tensor([[2, 3]])
    torch.testing.assert_close(trained.task(clip, label, question), fresh(clip, label, question), rtol=0, atol=0)
    language_model = trained.task.model.language_model
    assert language_model.lm_head.weight is language_model.backbone.embedding.weight


@pytest.mark.parametrize("path", sorted((CONFIGS / "connector").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_checkpoint_can_name_every_connector(path):
    config = OmegaConf.load(path)
    for part in (config, config.get("reducer", {})):
        assert part.get("_target_", "ssmvid.lmm.Pool") in TASKS


@pytest.mark.parametrize("target", ["os.system", "ssmvid.lmm.encoder.math", "ssmvid.data.write_videos", None])
def test_a_checkpoint_cannot_name_anything_but_a_task_and_its_parts(target, tmp_path):
    for task in ({"_target_": target}, NEEDLE | {"connector": {"_target_": target, "path": str(tmp_path)}}):
        with pytest.raises(ValueError, match=r"_target_ must be one of .*ssmvid\.tasks\.Classify"):
            from_config(task, TASKS)


def test_weights_that_do_not_fit_are_listed(tmp_path):
    folder = write(tmp_path, 1, model=MODEL | {"depth": 2, "dim": 32})
    with pytest.raises(CheckpointError, match=r"(?s)does not fit this model.*missing: layers\.1\..*of another shape"):
        restore(folder)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["stride_03", "stride_01"], r"class 0 is 'stride_01', the model was trained with 'stride_03' there"),
        (["a", "b", "c"], "2 classes, the model was trained on 3"),
    ],
)
def test_other_classes_are_refused(tmp_path, names, message):
    trained = restore(write(tmp_path, 1, names=names[:2]))
    object.__setattr__(trained, "class_names", tuple(names))
    with pytest.raises(CheckpointError, match=message):
        evaluate(trained, DATA, **HOW, out=tmp_path / "eval.jsonl")
    assert not (tmp_path / "eval.jsonl").exists()


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_a_folder_without_a_checkpoint_says_so(tmp_path, path):
    with pytest.raises(CheckpointError, match="neither a checkpoint"):
        restore(tmp_path / path)


@pytest.mark.parametrize(
    "target",
    [
        "os.system", "subprocess.run", "builtins.eval", "builtins.exec", "pickle.load", "torch.load", "torch.hub.load",
        "numpy.load", "pathlib.Path.unlink", "shutil.rmtree", "ssmvid.data.write_videos", "ssmvid.data.check.check",
        "ssmvid.data", "ssmvid.data.MovingDigits.__init__", "ssmvid.datax.MovingDigits", ["os.system"], None,
    ],
)  # fmt: skip
def test_a_checkpoint_cannot_name_anything_but_a_data_set(target, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    gadget = {"_target_": target, "_args_": [str(victim)], "path": str(victim), "root": str(victim)}
    with pytest.raises(ValueError, match=r"_target_ must be one of ssmvid\.data\.MovingDigits"):
        build_data(gadget)
    with pytest.raises(ValueError, match=r"_target_ must be one of ssmvid\.data\.MovingDigits"):
        build_data(DATA | {"frames": gadget})
    assert victim.exists()


def test_a_checkpoint_cannot_name_a_model_outside_the_registry(tmp_path):
    folder = write(tmp_path, 1, model=MODEL | {"name": "os.system", "_target_": "os.system"})
    with pytest.raises(ValueError, match=r"unknown model 'os\.system'"):
        restore(folder)


def test_build_data_builds_the_data_set():
    assert isinstance(build_data(DATA), MovingDigits)
    with pytest.raises(TypeError, match="num_clip"):
        build_data(DATA | {"num_clip": 3})
