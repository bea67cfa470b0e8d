import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = [*(ROOT / "ssmvid").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_kernels_folder_is_not_a_package():
    """kernels/__init__.py would shadow Hugging Face's `kernels` for every program started in the root."""
    assert not (ROOT / "kernels" / "__init__.py").exists()


def test_no_source_file_is_over_500_lines():
    assert [path.name for path in SOURCES if len(path.read_text().splitlines()) > 500] == []


def test_ssmvid_makes_torchvision_importable_and_imports_it_before_timm():
    code = "import ssmvid, torchvision, timm; from torchvision.transforms import v2; print(v2.Resize.__name__)"
    assert python(f"import sys; sys.path.insert(0, 'kernels'); {code}") == "Resize"


def test_the_shim_does_nothing_where_torchvision_loads():
    code = (
        "import sys; sys.path.insert(0, 'kernels'); import ssmvid, torchvision;"
        "from ssmvid import torchvision_shim as shim; before = len(shim._libraries);"
        "shim.ensure_torchvision(); print(torchvision is sys.modules['torchvision'], len(shim._libraries) - before)"
    )
    assert python(code) == "True 0"
