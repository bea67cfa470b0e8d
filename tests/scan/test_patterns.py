import pytest

from ssmvid.scan import Grid, ScanOrder, ScanPattern, patterns_by_layer

SPATIAL, TEMPORAL = ["thw", "thw+rev"], ["hwt", "hwt+rev"]


def names(patterns: list[ScanPattern]) -> list[list[str]]:
    return [[str(order) for order in pattern.orders] for pattern in patterns]


def test_same_gives_every_layer_the_one_pattern():
    assert names(patterns_by_layer(SPATIAL, "same", 3)) == [SPATIAL] * 3
    assert names(patterns_by_layer([SPATIAL], "same", 3)) == [SPATIAL] * 3


def test_alternate_gives_the_patterns_in_turn():
    assert names(patterns_by_layer([SPATIAL, TEMPORAL], "alternate", 3)) == [SPATIAL, TEMPORAL, SPATIAL]


def test_halves_gives_the_first_half_one_and_the_second_half_the_other():
    assert names(patterns_by_layer([SPATIAL, TEMPORAL], "halves", 4)) == [SPATIAL] * 2 + [TEMPORAL] * 2
    assert names(patterns_by_layer([SPATIAL, TEMPORAL], "halves", 5)) == [SPATIAL] * 3 + [TEMPORAL] * 2


def test_a_pattern_makes_a_walk_an_order():
    walks = ScanPattern.parse(TEMPORAL, "mean").walks(Grid(2, 3, 4), prefix=1)
    assert walks == [ScanOrder.parse(name).walk(Grid(2, 3, 4), 1) for name in TEMPORAL]


@pytest.mark.parametrize("orders", [[], [[]], [SPATIAL, TEMPORAL]])
def test_same_takes_exactly_one_pattern(orders):
    with pytest.raises(ValueError, match="scan schedule 'same': expected 1 pattern, got"):
        patterns_by_layer(orders, "same", 2)


@pytest.mark.parametrize("orders", [SPATIAL, [SPATIAL, TEMPORAL, SPATIAL]])
def test_halves_takes_exactly_two_patterns(orders):
    with pytest.raises(ValueError, match="scan schedule 'halves': expected 2 patterns, got"):
        patterns_by_layer(orders, "halves", 2)


def test_alternate_takes_any_number_but_none():
    with pytest.raises(ValueError, match="scan schedule 'alternate': expected 1 pattern, got 0"):
        patterns_by_layer([], "alternate", 2)


def test_unknown_schedule_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown scan schedule 'cycle': expected one of same, alternate, halves"):
        patterns_by_layer(SPATIAL, "cycle", 2)
