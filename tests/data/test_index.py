"""Which videos a split has: lists line by line, class folders, links, splits by hash."""

import os

import pytest

from ssmvid.data import read_index, read_list


def lines_of(tmp_path, text, **settings):
    file = tmp_path / "list.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    lines, findings = read_list(file, root=tmp_path, **settings)
    return [(line.path, line.label) for line in lines], [str(f).removeprefix(f"{tmp_path}{os.sep}") for f in findings]


GOOD = {
    "a.mp4 3": ("a.mp4", 3),
    "a.mp4\t3": ("a.mp4", 3),
    "a.mp4,3": ("a.mp4", 3),
    "a.mp4, 3": ("a.mp4", 3),
    "a.mp4   3  ": ("a.mp4", 3),
    "my clips/a b.mp4 3": ("my clips/a b.mp4", 3),
    "my clips/a b.mp4,3": ("my clips/a b.mp4", 3),
    "a,b c.mp4 3": ("a,b c.mp4", 3),
    "a,b.mp4\t3": ("a,b.mp4", 3),
    '"a, b.mp4",3': ("a, b.mp4", 3),
    '"say ""hi"".mp4" 3': ('say "hi".mp4', 3),
    '"a.mp4","3"': ("a.mp4", 3),
    "./x/../a.mp4 3": ("a.mp4", 3),
    "视频 é🎬.mp4 0": ("视频 é🎬.mp4", 0),
    "with:colon.mp4 +1": ("with:colon.mp4", 1),
    "100%#?&.mp4 1": ("100%#?&.mp4", 1),
}


@pytest.mark.parametrize("line", GOOD)
def test_good_lines(tmp_path, line):
    assert lines_of(tmp_path, line) == ([GOOD[line]], [])


BROKEN = {
    "a.mp4": "list.csv:1: expected `path label`, got 'a.mp4'",
    "a.mp4,": "list.csv:1: expected `path label`, got 'a.mp4,'",
    ",3": "list.csv:1: expected `path label`, got ',3'",
    "a.mp4 3.0": "list.csv:1: the label must be a whole number, got '3.0'",
    "a.mp4,run": "list.csv:1: the label must be a whole number, got 'run'",
    "a.mp4 -1": "list.csv:1: the label must be 0 <= label < 5, got -1",
    "a.mp4 5": "list.csv:1: the label must be 0 <= label < 5, got 5",
    "../a.mp4 1": "list.csv:1: ../a.mp4 leads out of",
    "x/../../a.mp4 1": "list.csv:1: x/../../a.mp4 leads out of",
    "/etc/passwd 1": "list.csv:1: /etc/passwd leads out of",
    "http://host/a.mp4 1": "list.csv:1: http://host/a.mp4 is a URL",
    "concat:a.mp4|b.mp4 1": "list.csv:1: concat:a.mp4|b.mp4 is a URL",
    "a\0b.mp4 1": "list.csv:1: the path holds a zero byte",
}


@pytest.mark.parametrize("line", BROKEN)
def test_broken_lines_are_named(tmp_path, line):
    lines, findings = lines_of(tmp_path, line, num_classes=5)
    assert lines == []
    assert len(findings) == 1
    assert findings[0].startswith(BROKEN[line])


def test_line_numbers_hold_past_header_mark_blank_lines_and_line_ends(tmp_path):
    text = b"\xef\xbb\xbfpath,label\r\na.mp4,0\r\n\r\nb.mp4,x\r\na.mp4,1\r\na.mp4,0\r\nc.mp4,2"
    lines, findings = lines_of(tmp_path, text)
    assert lines == [("a.mp4", 0), ("c.mp4", 2)]
    assert findings == [
        "list.csv:4: the label must be a whole number, got 'x'",
        "list.csv:5: a.mp4 is in line 2 already, there with label 0: keep one",
        "list.csv:6: a.mp4 is in line 2 already: keep one",
    ]


def test_only_the_first_line_can_be_a_header(tmp_path):
    lines, findings = lines_of(tmp_path, "a.mp4 0\nvideo label\n")
    assert (lines, len(findings)) == ([("a.mp4", 0)], 1)


def test_a_list_must_be_text(tmp_path):
    with pytest.raises(ValueError, match=r"list.csv: a list must be UTF-8 text: byte 2 is not"):
        lines_of(tmp_path, b"a \xff\xfe")


def test_an_absolute_path_inside_the_root_is_inside(tmp_path):
    assert lines_of(tmp_path, f"{tmp_path}/x/a.mp4 1") == ([("x/a.mp4", 1)], [])


def test_links_out_of_the_root_are_refused_unless_allowed(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside.mp4"
    root.mkdir()
    outside.touch()
    (root / "link.mp4").symlink_to(outside)
    lines, findings = lines_of(root, "link.mp4 0\n../outside.mp4 1\n")
    assert (lines, len(findings)) == ([], 2)
    lines, findings = lines_of(root, "link.mp4 0\n../outside.mp4 1\n", allow_outside_root=True)
    assert (lines, findings) == ([("link.mp4", 0), (outside.as_posix(), 1)], [])


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_split_folders(tmp_path):
    touch(
        tmp_path, "train/run/b.mp4", "train/run/a.MP4", "train/jump/deep/c.mkv", "val/run/d.mp4", "train/run/notes.txt"
    )
    touch(tmp_path, "train/.hidden/x.mp4", "train/run/.x.mp4")
    train, val = (read_index(tmp_path, split) for split in ("train", "val"))
    assert train.class_names == val.class_names == ("jump", "run")
    assert train.entries == (("train/jump/deep/c.mkv", 0), ("train/run/a.MP4", 1), ("train/run/b.mp4", 1))
    assert val.entries == (("val/run/d.mp4", 1),)
    assert train.findings == val.findings == ()


def test_a_class_of_val_that_train_lacks_is_found(tmp_path):
    touch(tmp_path, "train/run/a.mp4", "val/run/b.mp4", "val/swim/c.mp4")
    index = read_index(tmp_path, "val")
    assert [str(finding) for finding in index.findings] == [
        f"{tmp_path.resolve()}/val/swim: a class of val that train does not have"
    ]
    assert index.entries == (("val/run/b.mp4", 0),)


def test_class_folders_are_split_by_path_and_stay_so(tmp_path):
    touch(tmp_path, *(f"{name}/{i:03d}.mp4" for name in ("b", "a") for i in range(100)))
    train, val = (read_index(tmp_path, split) for split in ("train", "val"))
    assert train.class_names == ("a", "b")
    assert sorted(train.entries + val.entries) == sorted(
        (f"{n}/{i:03d}.mp4", "ab".index(n)) for n in "ab" for i in range(100)
    )
    assert 25 <= len(val.entries) <= 55
    assert val.entries[:3] == (
        ("a/000.mp4", 0),
        ("a/005.mp4", 0),
        ("a/007.mp4", 0),
    )  # the same on every machine, for ever
    touch(tmp_path, "a/new.mp4", "b/new.mp4")
    assert set(val.entries) <= set(read_index(tmp_path, "val").entries)
    assert set(read_index(tmp_path, "val", val_share=0.1).entries) < set(read_index(tmp_path, "val").entries)


def test_a_folder_linked_into_the_root_is_refused_unless_allowed(tmp_path):
    touch(tmp_path, "root/a/x.mp4", "elsewhere/y.mp4")
    (tmp_path / "root/a/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/a/loop").symlink_to(tmp_path / "root/a")
    both = [read_index(tmp_path / "root", s) for s in ("train", "val")]
    assert [e for index in both for e, _ in index.entries] == ["a/x.mp4"]
    assert [f.kind for index in both for f in index.findings] == ["refused"]
    both = [read_index(tmp_path / "root", s, allow_outside_root=True) for s in ("train", "val")]
    assert sorted(e for index in both for e, _ in index.entries) == ["a/more/y.mp4", "a/x.mp4"]


def test_lists(tmp_path):
    (tmp_path / "train.csv").write_text("x/a.mp4 0\nx/b.mp4 2\n")
    (tmp_path / "val.txt").write_text("x/c.mp4 1\nx/b.mp4 2\n")
    train, val = (read_index(tmp_path, split) for split in ("train", "val"))
    assert train.entries == (("x/a.mp4", 0), ("x/b.mp4", 2))
    assert train.class_names == val.class_names == ("0", "1", "2")
    assert [str(finding) for finding in val.findings] == [
        f"{tmp_path.resolve()}/val.txt:2: x/b.mp4 is in train.csv:2 too"
    ]
    assert len(read_index(tmp_path, "val", num_classes=2).findings) == 2


def test_layouts_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"root must be a folder.*set data\.root=DIR"):
        read_index(tmp_path / "no", "train")
    with pytest.raises(ValueError, match=r"holds no videos: expected train\.csv"):
        read_index(tmp_path, "train")
    with pytest.raises(ValueError, match="split must be one of"):
        read_index(tmp_path, "test")
    (tmp_path / "train.csv").write_text("a.mp4 0\n")
    with pytest.raises(ValueError, match=r"has train.csv, but no list of val: add val.csv"):
        read_index(tmp_path, "train")
    (tmp_path / "train.txt").write_text("a.mp4 0\n")
    with pytest.raises(ValueError, match=r"more than one list of train: .*train.csv, .*train.txt: keep one"):
        read_index(tmp_path, "train")
