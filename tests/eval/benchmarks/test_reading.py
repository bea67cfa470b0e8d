import json
import sys
import types

import pytest

from ssmvid.eval.benchmarks import EXTRACTORS, FORMATS, read_questions
from tests.eval.benchmarks.annotations import ROWS


def write(tmp_path, benchmark, rows=None, suffix=".json"):
    path, rows = tmp_path / f"{benchmark}{suffix}", ROWS[benchmark] if rows is None else rows
    path.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)) + "\n")
    return path


def test_every_benchmark_is_read_and_scored_here():
    assert set(FORMATS) == set(EXTRACTORS) == set(ROWS)


def test_video_mme(tmp_path):
    first, second = read_questions("video_mme", write(tmp_path, "video_mme"))
    assert (first.id, first.video, first.answer) == ("001-1", "aB3.mp4", 2)
    assert first.options == ("One.", "Two.", "Four.", "None.")
    assert first.groups["duration"] == ("short",)
    assert first.groups["task_type"] == ("Counting Problem",)
    assert (second.groups["domain"], second.groups["sub_category"]) == (("Knowledge",), ("Law",))
    assert first.prompt() == "How many moons are drawn?\nA. One.\nB. Two.\nC. Four.\nD. None."


def test_mlvu(tmp_path):
    dev, test = read_questions("mlvu", write(tmp_path, "mlvu"))
    assert (dev.answer, dev.groups, dev.video) == (2, {"task": ("order",)}, "order_7.mp4")
    assert (test.id, test.answer, len(test.options)) == ("ego_12", None, 6)
    assert dev.id == "order/order_7.mp4/What is cut first?"


def test_lvbench(tmp_path):
    first, second = read_questions("lvbench", write(tmp_path, "lvbench", suffix=".jsonl"))
    assert (first.id, first.video, first.text, first.answer) == ("41", "Xy_9.mp4", "Who scores at 12:00?", 3)
    assert first.options == ("Red 7", "Red 9", "Blue 7", "Nobody (yet)")
    assert first.groups == {"question_type": ("entity recognition", "reasoning"), "type": ("sport",)}
    assert second.options[1] == "2:0"


def test_longvideobench(tmp_path):
    (question,) = read_questions("longvideobench", write(tmp_path, "longvideobench"))
    assert (question.id, question.answer, question.options[4]) == ("q1_0", 4, "Nobody")
    assert question.groups["duration_group"] == ("600",)
    row = {name: value for name, value in ROWS["longvideobench"][0].items() if name != "correct_choice"}
    (secret,) = read_questions("longvideobench", write(tmp_path, "longvideobench", [row]))
    assert secret.answer is None


def test_egoschema_has_its_answers_apart(tmp_path):
    path, answers = write(tmp_path, "egoschema"), tmp_path / "subset_answers.json"
    assert [question.answer for question in read_questions("egoschema", path)] == [None, None]
    answers.write_text(json.dumps({"u-2": 3}))
    (question,) = read_questions("egoschema", path, answers)
    assert (question.id, question.answer, question.options[3]) == ("u-2", 3, "A call.")


def test_a_table_is_read_by_pyarrow(tmp_path, monkeypatch):
    table = types.SimpleNamespace(to_pylist=lambda: ROWS["video_mme"])
    parquet = types.SimpleNamespace(read_table=lambda path: table)
    monkeypatch.setitem(sys.modules, "pyarrow", types.SimpleNamespace(parquet=parquet))
    same = read_questions("video_mme", write(tmp_path, "video_mme"))
    assert read_questions("video_mme", tmp_path / "a.parquet") == same
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"a\.parquet: .*pip install pyarrow"):
        read_questions("video_mme", tmp_path / "a.parquet")


@pytest.mark.parametrize("benchmark", ROWS)
def test_a_row_of_another_schema_is_named(tmp_path, benchmark):
    name = next(name for name in ("question", "qa") if name in ROWS[benchmark][0])
    broken = [ROWS[benchmark][0], {key: value for key, value in ROWS[benchmark][0].items() if key != name}]
    with pytest.raises(ValueError, match=rf"row 1 is not in the schema of {benchmark}: no field '{name}'"):
        read_questions(benchmark, write(tmp_path, benchmark, broken))


def test_what_cannot_be_right_is_refused(tmp_path):
    wrong = [ROWS["mlvu"][0] | {"answer": "a stone"}]
    with pytest.raises(ValueError, match="row 0 is not in the schema of mlvu"):
        read_questions("mlvu", write(tmp_path, "mlvu", wrong))
    with pytest.raises(ValueError, match=r"expected a \.json, \.jsonl or \.parquet"):
        read_questions("mlvu", tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"must be one of video_mme, .*got 'mvbench'"):
        read_questions("mvbench", tmp_path / "a.json")
