"""`check`: every broken line and every broken file, with its place and its reason."""

import pytest

from ssmvid.data import check


def told(report, root):
    return [str(finding).replace(f"{root}/", "") for finding in report.findings]


def test_one_video(good_mp4, tmp_path):
    report = check(good_mp4)
    assert (report.findings, report.n_ok, report.n_failed, report.ok) == ((), 1, 0, True)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    report = check(tmp_path / "bad.mp4")
    assert (report.n_ok, report.n_failed, report.ok) == (0, 1, False)
    assert told(report, tmp_path)[0].startswith("bad.mp4: not_media: its first bytes (b'no video') are of no video")


def test_a_list_is_checked_line_by_line(good_mp4, tmp_path):
    (tmp_path / "good.mp4").write_bytes(good_mp4.read_bytes())
    (tmp_path / "cut.mp4").write_bytes(good_mp4.read_bytes()[:-500])
    (tmp_path / "list.csv").write_text("path,label\ngood.mp4,0\ncut.mp4,1\ngone.mp4,2\ngood.mp4,x\n../up.mp4,1\n")
    seen = []
    report = check(tmp_path / "list.csv", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert (report.n_ok, report.n_failed) == (1, 2)
    starts = [
        "list.csv:5: the label must be a whole number, got 'x'",
        "list.csv:6: ../up.mp4 leads out of",
        "list.csv:3: cut.mp4: truncated: the container declares",
        "list.csv:4: gone.mp4: missing: cannot be opened (No such file or directory)",
    ]
    assert all(line.startswith(start) for line, start in zip(told(report, tmp_path), starts, strict=True))


def test_both_lists_of_a_folder_are_checked(good_mp4, tmp_path):
    (tmp_path / "a.mp4").write_bytes(good_mp4.read_bytes())
    (tmp_path / "train.csv").write_text("a.mp4 0\n")
    (tmp_path / "val.csv").write_text("a.mp4 0\n")
    report = check(tmp_path)
    assert told(report, tmp_path.resolve()) == ["val.csv:1: a.mp4 is in train.csv:1 too"]
    assert not report.ok
    assert check(tmp_path, num_classes=1).n_ok == 2


def test_a_folder_is_checked_file_by_file(good_mp4, tmp_path):
    for name in ("train/run/a.mp4", "train/jump/b.mp4", "val/run/c.mp4", "val/swim/d.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(good_mp4.read_bytes())
    (tmp_path / "train/run/e.webm").write_bytes(b"#EXTM3U\nhttp://host/x\n")
    (tmp_path / "train/run/folder.mp4").mkdir()
    (tmp_path / "train/readme.txt").write_text("hello")
    report = check(tmp_path)
    assert (report.n_ok, report.n_failed) == (4, 2)
    assert told(report, tmp_path) == [
        "train/readme.txt: ignored: .txt is not a video's suffix",
        "val/swim: a class of val that train does not have",
        "train/run/e.webm: refused: a playlist or concat script, whatever its name: give the video files themselves",
        "train/run/folder.mp4: missing: this is a folder: a regular file is needed",
    ]


def test_a_note_alone_is_no_failure(good_mp4, tmp_path):
    (tmp_path / "a.mp4").write_bytes(good_mp4.read_bytes())
    (tmp_path / "notes.md").write_text("hello")
    report = check(tmp_path)
    assert report.ok
    assert told(report, tmp_path) == ["notes.md: ignored: .md is not a video's suffix"]


def test_no_such_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*give a video, a list or a folder"):
        check(tmp_path / "no")
