"""Loading: a batch depends on seed, epoch, step, rank and world size, and on nothing else."""

import pytest
import torch

from ssmvid.data import Clip, MovingDigits, VideoError, VideoFolder, collate, make_loader, steps_per_epoch

SHAPE = (3, 2, 4, 4)


class Numbered:
    """Clip i is filled with i; every seventh is broken."""

    num_classes = 5
    class_names = tuple("abcde")
    clip_shape = SHAPE
    question_length = 0

    def __init__(self, count, broken=()):
        self.count, self.broken = count, set(broken)

    def __len__(self):
        return self.count

    def __getitem__(self, key):
        epoch, index = key
        if index in self.broken:
            return VideoError(f"{index}.mp4", "corrupt", f"epoch {epoch}")
        return Clip(torch.full(SHAPE, float(index)), index % 5, str(index))


def load(count, **settings):
    given = {"batch_size": 4, "epoch": 0, "shuffle": True, "seed": 0, **settings}
    return [batch.ids for batch in make_loader(Numbered(count), **given)]


def test_a_run_goes_on_from_any_step():
    whole = load(50, epoch=3)
    assert len(whole) == 12
    for step in (0, 1, 7, 12):
        assert load(50, epoch=3, start_step=step) == whole[step:]


def test_every_epoch_and_seed_has_its_own_order():
    orders = [load(40, epoch=0), load(40, epoch=1), load(40, seed=1)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    for order in orders:
        assert sorted(int(i) for batch in order for i in batch) == list(range(40))
    assert load(40, shuffle=False, epoch=5) == [[str(i) for i in range(s, s + 4)] for s in range(0, 40, 4)]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 23, 24, 25, 100])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_sees_each_sample_once_over_the_ranks(count, world_size):
    ranks = [load(count, shuffle=False, rank=r, world_size=world_size) for r in range(world_size)]
    assert len({len(batches) for batches in ranks}) == 1  # equally many steps, so that no rank waits for ever
    assert sorted(int(i) for batches in ranks for b in batches for i in b) == list(range(count))
    assert len(ranks[0]) == steps_per_epoch(count, batch_size=4, world_size=world_size, drop_last=False)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_training_steps_are_full_and_the_global_batch_does_not_depend_on_the_ranks(world_size):
    ranks = [load(50, batch_size=12 // world_size, rank=r, world_size=world_size) for r in range(world_size)]
    assert all(len(batch) == 12 // world_size for batches in ranks for batch in batches)
    together = [[i for batches in ranks for i in batches[step]] for step in range(4)]
    assert together == load(50, batch_size=12)


def test_broken_videos_are_kept_beside_the_clips():
    batches = list(make_loader(Numbered(8, broken=[0, 5, 6, 7, 4]), batch_size=4, epoch=2, shuffle=False, seed=0))
    assert [batch.ids for batch in batches] == [["1", "2", "3"], []]
    assert [error.path for error in batches[1].failed] == ["4.mp4", "5.mp4", "6.mp4", "7.mp4"]
    assert batches[0].failed[0].hint == "epoch 2"
    assert batches[0].frames.shape == (3, *SHAPE)
    assert batches[0].labels.tolist() == [1, 2, 3]
    empty = batches[1]
    assert (empty.frames.shape, empty.frames.dtype, empty.labels.dtype) == ((0, *SHAPE), torch.float32, torch.int64)
    assert empty.to("cpu").ids == []


def test_a_clip_of_another_shape_is_an_error():
    with pytest.raises(ValueError, match=r"must be \(c, T, H, W\) = \(3, 2, 4, 4\), got \(3, 1, 4, 4\): odd"):
        collate([Clip(torch.zeros(3, 1, 4, 4), 0, "odd")], SHAPE)


@pytest.mark.parametrize(
    "wrong",
    [{"batch_size": 0}, {"workers": -1}, {"rank": 2}, {"epoch": -1}, {"start_step": 99}, {"batch_size": 41}],
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError, match="make_loader"):
        load(40, **wrong)


def test_any_number_of_workers_loads_the_same(tmp_path, write_video):
    for name in ("train/a/0.mp4", "train/b/1.mp4", "train/b/2.mp4", "val/a/3.mp4", "val/b/4.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(tmp_path / name, 20)
    (tmp_path / "train/b/broken.mp4").write_bytes(b"nothing")
    for dataset in (
        MovingDigits(split="train", num_clips=12),
        VideoFolder(tmp_path, split="train", frames=4, stride=2, size=32),
    ):
        batches = {
            workers: list(make_loader(dataset, batch_size=2, epoch=1, shuffle=True, seed=0, workers=workers))
            for workers in (0, 2)
        }
        assert len(batches[0]) == len(batches[2]) == len(dataset) // 2
        for alone, shared in zip(batches[0], batches[2]):
            assert alone.ids == shared.ids
            assert torch.equal(alone.frames, shared.frames)
            assert torch.equal(alone.labels, shared.labels)
            assert [str(error) for error in alone.failed] == [str(error) for error in shared.failed]
