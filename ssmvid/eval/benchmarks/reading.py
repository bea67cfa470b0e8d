"""Annotation files as questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssmvid.eval.benchmarks import formats
from ssmvid.eval.benchmarks.question import Question

FORMATS: Mapping[str, Callable[[formats.Row], Iterator[Question]]] = {
    read.__name__: read
    for read in (formats.video_mme, formats.mlvu, formats.lvbench, formats.longvideobench, formats.egoschema)
}


def read_questions(benchmark: str, path: str | Path, answers: str | Path | None = None) -> list[Question]:
    """Read a benchmark's annotation file.

    Args:
        benchmark: One of `FORMATS`.
        path: A .json list, .jsonl lines, or a .parquet table (by pyarrow).
        answers: A .json object from id to the index of the right option: EgoSchema's subset_answers.json. Only the
            questions in it are then given.

    Raises:
        ValueError: an unknown benchmark or file ending, or a row is not of the benchmark's schema; says which.
        ImportError: a table, and no pyarrow.
    """
    if benchmark not in FORMATS:
        raise ValueError(f"read_questions: benchmark must be one of {', '.join(FORMATS)}, got {benchmark!r}")
    questions: list[Question] = []
    for number, row in enumerate(_rows(Path(path))):
        try:
            questions += FORMATS[benchmark](row)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            why = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}: row {number} is not in the schema of {benchmark}: {why}") from error
    if answers is None:
        return questions
    right = json.loads(Path(answers).read_text())
    return [replace(question, answer=right[question.id]) for question in questions if question.id in right]


def _rows(path: Path) -> list[Any]:
    if path.suffix == ".json":
        return list(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    if path.suffix == ".parquet":
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise ImportError(f"{path}: a .parquet table needs pyarrow: pip install pyarrow") from error
        return list(parquet.read_table(path).to_pylist())
    raise ValueError(f"{path}: expected a .json, .jsonl or .parquet file")
