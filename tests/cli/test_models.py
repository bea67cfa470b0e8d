"""The table of models."""

import pytest

TINY = ["videomamba_tiny", "7,033,744", "192", "8", "224", "x", "224"]
BASE = ["videomamba_base", "97,598,440", "768", "1", "224", "x", "224"]


def test_every_model_is_a_line(ssmvid):
    done = ssmvid("models")
    assert (done.code, done.err) == (0, "")
    head, *lines = [line.split() for line in done.out.splitlines()]
    assert head == ["model", "parameters", "width", "frames", "pixels"]
    assert TINY in lines
    assert BASE in lines


def test_a_pattern_chooses(ssmvid):
    assert [line.split() for line in ssmvid("models", "videomamba_t*").out.splitlines()[1:]] == [TINY]


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [("videomamba_tini", "did you mean videomamba_tiny"), ("resnet*", "known are local_vim_small, ")],
)
def test_a_pattern_that_matches_nothing_gets_a_suggestion(ssmvid, pattern, hint):
    done = ssmvid("models", pattern)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"ssmvid: no model's name matches '{pattern}': {hint}")
