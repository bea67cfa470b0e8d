"""What a row of each benchmark's annotation file says, in the schema it is published in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ssmvid.eval.benchmarks.question import LETTERS, Question

Row = Mapping[str, Any]
_LETTERED = re.compile(r"^\(?[A-H][.)]\s*")


def video_mme(row: Row) -> Iterator[Question]:
    """A question of Video-MME.

    Source: huggingface.co/datasets/lmms-lab/Video-MME, videomme/test-00000-of-00001.parquet.
    """
    groups = {name: (row[name],) for name in ("duration", "domain", "sub_category", "task_type")}
    options = tuple(_LETTERED.sub("", option) for option in row["options"])
    yield Question(
        row["question_id"], f"{row['videoID']}.mp4", row["question"], options, LETTERS.index(row["answer"]), groups
    )


def mlvu(row: Row) -> Iterator[Question]:
    """A question of one of MLVU's multiple-choice tasks; the answers of its test set are in no file.

    Source: huggingface.co/datasets/MLVU/MVLU, json/1_plotQA.json to 7_topic_reasoning.json; MLVU_Test has ids.
    """
    options, answer = tuple(row["candidates"]), row.get("answer")
    name = row.get("question_id", f"{row['question_type']}/{row['video']}/{row['question']}")
    right = None if answer is None else options.index(answer)
    yield Question(str(name), row["video"], row["question"], options, right, {"task": (row["question_type"],)})


def lvbench(row: Row) -> Iterator[Question]:
    """The questions about one video of LVBench: their options stand in the question's text, a line each.

    Source: huggingface.co/datasets/THUDM/LVBench, video_info.meta.jsonl.
    """
    for asked in row["qa"]:
        text, *options = re.split(r"\n(?=\([A-H]\))", asked["question"])
        groups = {"question_type": tuple(asked["question_type"]), "type": (row["type"],)}
        yield Question(
            str(asked["uid"]),
            f"{row['key']}.mp4",
            text,
            tuple(_LETTERED.sub("", option) for option in options),
            LETTERS.index(asked["answer"]),
            groups,
        )


def longvideobench(row: Row) -> Iterator[Question]:
    """A question of LongVideoBench; those of its test set have no `correct_choice`.

    Source: huggingface.co/datasets/longvideobench/LongVideoBench, lvb_val.json and lvb_test_wo_gt.json.
    """
    names = ("duration_group", "question_category", "topic_category", "level")
    groups = {name: (str(row[name]),) for name in names}
    yield Question(
        row["id"], row["video_path"], row["question"], tuple(row["candidates"]), row.get("correct_choice"), groups
    )


def egoschema(row: Row) -> Iterator[Question]:
    """A question of EgoSchema; its answers are in another file, of 500 of its questions.

    Source: github.com/egoschema/EgoSchema, questions.json and subset_answers.json.
    """
    options = tuple(row[f"option {i}"] for i in range(5))
    yield Question(row["q_uid"], f"{row['q_uid']}.mp4", row["question"], options, None, {})
