import pytest

from ssmvid import create_model
from tests.backbones.families import TINY


@pytest.fixture
def small():
    """`small(**options)`: a VideoMamba small enough for a test, sizes and options to choose."""
    return lambda **options: create_model("videomamba_tiny", **TINY["videomamba_tiny"] | options)
