import pytest

from ssmvid.mixers import MLP, Attention, Mamba, Mamba2, hybrid_mixers, hybrid_pattern

SPATIAL, TEMPORAL = ["thw", "thw+rev"], ["hwt", "hwt+rev"]


def make(letters, **options):
    return hybrid_mixers(letters, 16, **{"orders": SPATIAL, "head_dim": 4, "window": 2} | options)


def test_a_pattern_is_repeated_over_depth():
    assert hybrid_pattern("MMMA", 8) == "MMMAMMMA"
    assert hybrid_pattern("SFSFAFAF", 8) == "SFSFAFAF"


def test_letters_are_mixers():
    samba = make("SFWF", orders=["thw"], causal_frames=1, window=2)
    assert [type(mixer) for mixer in samba] == [Mamba, MLP, Attention, MLP]
    assert (samba[2].causal_frames, samba[2].window) == (1, 2)
    two, everywhere = make("MA")
    assert type(two) is Mamba2
    assert everywhere.window is None


def test_patterns_alternate_among_the_scanning_layers():
    mixers = make("MFMWSF", orders=[SPATIAL, TEMPORAL], schedule="alternate")
    names = [[str(order) for order in mixers[i].pattern.orders] for i in (0, 2, 4)]
    assert names == [SPATIAL, TEMPORAL, SPATIAL]


@pytest.mark.parametrize(("pattern", "got"), [("", "none"), ("MX-", "-, X"), ("mm", "m")])
def test_unknown_letters_are_refused(pattern, got):
    with pytest.raises(ValueError, match=rf"expected letters of M Mamba-2 .* F MLP; got {got}$"):
        hybrid_pattern(pattern, 4)


def test_a_depth_that_is_no_multiple_is_refused():
    with pytest.raises(ValueError, match="'MMMA': depth must be a multiple of its 4 letters, got 6"):
        hybrid_pattern("MMMA", 6)


def test_a_window_without_frames_is_refused():
    with pytest.raises(ValueError, match="letter W needs a window, in frames, got None"):
        make("MW", window=None)
