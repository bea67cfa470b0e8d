"""Multiple-choice benchmarks of long video: their annotation files as questions, and answers scored as they score."""

from ssmvid.eval.benchmarks.letters import EXTRACTORS, extract
from ssmvid.eval.benchmarks.question import Question
from ssmvid.eval.benchmarks.reading import FORMATS, read_questions
from ssmvid.eval.benchmarks.score import Tally, score, table

__all__ = ["EXTRACTORS", "FORMATS", "Question", "Tally", "extract", "read_questions", "score", "table"]
