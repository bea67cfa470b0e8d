"""`ssmvid data check`: every broken line with its place, and an exit code a script can read."""

import pytest

from tests.videos import write_video


@pytest.fixture
def folder(tmp_path):
    good = write_video(tmp_path / "good.mp4", 5)
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:-400])
    return tmp_path


def test_a_good_video_is_0(ssmvid, folder):
    path = folder / "good.mp4"
    assert ssmvid("data", "check", path) == (0, f"{path}: 1 videos can be used, 0 cannot\n", "")


def test_each_broken_line_is_named_and_the_code_is_1(ssmvid, folder):
    file = folder / "all.csv"
    file.write_text("good.mp4 0\ncut.mp4 1\ngood.mp4\n../up.mp4 1\ngone.mp4 9\n")
    done = ssmvid("data", "check", file)
    assert (done.code, done.err) == (1, "")
    *findings, last = done.out.splitlines()
    assert sorted(line.split(": ")[0] for line in findings) == [f"{file}:{number}" for number in (2, 3, 4, 5)]
    assert any("truncated: the container declares" in line for line in findings)
    assert last == f"{file}: 1 videos can be used, 2 cannot"


def test_labels_are_held_against_the_number_of_classes(ssmvid, folder):
    file = folder / "all.csv"
    file.write_text("good.mp4 5\n")
    assert ssmvid("data", "check", file).code == 0
    done = ssmvid("data", "check", file, "--num-classes", 5)
    assert done.code == 1
    assert f"{file}:1: the label must be 0 <= label < 5, got 5" in done.out


def test_what_cannot_be_checked_is_2(ssmvid, tmp_path):
    done = ssmvid("data", "check", tmp_path / "no")
    assert (done.code, done.out) == (2, "")
    assert f"there is no '{tmp_path / 'no'}'" in done.err
    (tmp_path / "notes.md").write_text("hello")
    done = ssmvid("data", "check", tmp_path)
    assert done.code == 2
    assert "notes.md: ignored" in done.out
    assert f"there is no video under '{tmp_path}'" in done.err
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe.mp4 0\n")
    assert "a list must be UTF-8 text" in ssmvid("data", "check", tmp_path / "list.txt").err
