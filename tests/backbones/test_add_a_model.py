"""docs/add-a-model.md does what it says: its files, in a copy of the project, are a model that passes every check."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ssmvid.backbones

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add-a-model.md").read_text()
BLOCKS = re.findall(r"^```(python|yaml)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with the page's blocks in the places it names."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("ssmvid", "hydra_configs", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "train.py"):
        shutil.copy(ROOT / name, copy)
    paths = re.findall(r"^`([\w/]+\.(?:py|yaml))`$", PAGE, flags=re.MULTILINE)
    assert [kind for kind, _ in BLOCKS] == ["python", "yaml", "python"]
    for path, (_, text) in zip(paths, BLOCKS[:2], strict=True):
        assert not (copy / path).exists()
        (copy / path).write_text(text)
    with (copy / "tests" / "backbones" / "families.py").open("a") as families:
        families.write(BLOCKS[2][1])
    return copy


def run(project, *command):
    """What `python *command` prints, started in the copy."""
    path = os.pathsep.join([str(project), str(ROOT / "kernels")])
    done = subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_model_passes_the_checks_of_every_family(project):
    command = re.search(r"^    pytest (.*)$", PAGE, flags=re.MULTILINE)[1].split()
    printed = run(project, "-m", "pytest", "-n", "0", "-q", *command)
    passed = int(re.search(r"(\d+) passed", printed)[1])
    assert passed > 15
    assert "skipped" not in printed


def test_the_model_trains_by_its_name(project):
    command = re.search(r"^    python (train\.py model=.*)$", PAGE, flags=re.MULTILINE)[1].split()
    small = ["++model.dim=16", "++model.depth=2", "run=test"]
    run(project, *command, *small, "trainer.epochs=1", "data.train.num_clips=64", "data.val.num_clips=32")
    assert (project / "outputs" / "test" / "summary.json").is_file()


def test_every_file_of_the_folder_is_imported():
    folder = Path(ssmvid.backbones.__file__).parent
    assert {f"ssmvid.backbones.{path.stem}" for path in folder.glob("[!_]*.py")} <= sys.modules.keys()
