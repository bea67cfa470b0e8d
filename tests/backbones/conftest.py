import pytest

from ssmvid import create_model


@pytest.fixture
def small():
    """`small(**options)`: a VideoMamba small enough for a test, sizes and options to choose."""

    def make(**options):
        sizes = {"dim": 16, "depth": 2, "num_classes": 5, "num_frames": 2, "img_size": 16, "tubelet": (1, 8, 8)}
        return create_model("videomamba_tiny", **sizes | {"state_size": 4} | options)

    return make
