import pytest
import torch
import torch.nn.functional as F

from ssmvid.layers import join_prefix, resize_spatial, resize_temporal, split_prefix


@pytest.mark.parametrize("new", [(6, 4), (2, 7), (1, 1)])
def test_spatial_table_is_resized_bicubically(new):
    table = torch.randn(1, 12, 5)
    plane = table.mT.view(1, 5, 3, 4)
    expected = F.interpolate(plane, size=new, mode="bicubic", align_corners=False).flatten(2).mT
    torch.testing.assert_close(resize_spatial(table, (3, 4), new), expected)


@pytest.mark.parametrize(
    ("place", "prefix", "slots"), [("head", 2, [0, 1]), ("middle", 1, [4]), ("spread", 3, [2, 5, 8])]
)
def test_prefix_slots_are_cut_where_they_are_and_put_back(place, prefix, slots):
    table = torch.arange(8.0 + prefix).view(1, -1, 1)
    own, rest = split_prefix(table, prefix, place)
    assert own.flatten().tolist() == slots
    assert rest.flatten().tolist() == [i for i in range(8 + prefix) if i not in slots]
    assert torch.equal(join_prefix(own, rest, place), table)


def test_spatial_table_of_the_same_count_but_another_shape_is_resized():
    table = torch.randn(1, 12, 5)
    assert not torch.equal(resize_spatial(table, (3, 4), (4, 3)), table)


def test_tables_of_the_right_size_are_left_alone():
    table = torch.randn(1, 12, 5)
    assert resize_spatial(table, (3, 4), (3, 4)) is table
    assert resize_temporal(table, 12) is table


@pytest.mark.parametrize("frames", [1, 3, 16])
def test_temporal_table_is_resized_linearly(frames):
    table = torch.randn(1, 8, 5)
    expected = F.interpolate(table.mT, size=frames, mode="linear", align_corners=False).mT
    assert torch.equal(resize_temporal(table, frames), expected)


def test_a_linear_ramp_stays_one_inside():
    ramp = torch.arange(4.0).view(1, 4, 1)
    assert resize_temporal(ramp, 8).flatten().tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtype_is_kept(dtype):
    table = torch.randn(1, 9, 3, dtype=dtype)
    assert resize_spatial(table, (3, 3), (2, 2)).dtype == dtype
    assert resize_temporal(table, 4).dtype == dtype
