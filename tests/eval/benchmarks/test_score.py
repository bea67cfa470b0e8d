import pytest

from ssmvid.eval.benchmarks import Question, Tally, score, table

QUESTIONS = [
    Question(name, "v.mp4", "?", ("a", "b", "c", "d"), right, {"duration": (length,), "kind": kinds})
    for name, right, length, kinds in (
        ("1", 0, "short", ("x",)),
        ("2", 1, "short", ("x", "y")),
        ("3", 2, "long", ("y",)),
        ("4", 3, "long", ("y",)),
    )
]


def test_accuracy_by_every_division():
    scores = score("longvideobench", QUESTIONS, {"1": "A", "2": "A", "3": "C", "4": "what?"})
    assert scores["overall"] == {"all": Tally(4, 4, 2)}
    assert scores["duration"] == {"short": Tally(2, 2, 1), "long": Tally(2, 2, 1)}
    assert scores["kind"] == {"x": Tally(2, 2, 1), "y": Tally(3, 3, 1)}  # a question can be of several kinds
    assert scores["overall"]["all"].accuracy == 0.5


def test_video_mme_counts_only_what_has_a_letter():
    scores = score("video_mme", QUESTIONS, {"1": "A", "2": "A", "3": "C", "4": "what?"})
    assert scores["overall"]["all"] == Tally(4, 3, 2)
    assert scores["duration"]["long"].accuracy == 1.0
    assert Tally(2, 0, 0).accuracy is None


def test_the_table_has_every_class_and_the_mean():
    text = table(score("longvideobench", QUESTIONS, {"1": "A", "2": "A", "3": "C", "4": "D"}))
    assert "| overall | all | 4 | 4 | 75.0 |" in text
    assert "| duration | long | 2 | 2 | 100.0 |" in text
    assert "| duration | mean | | | 75.0 |" in text
    assert "overall | mean" not in text


@pytest.mark.parametrize(
    ("questions", "responses", "message"),
    [
        (QUESTIONS, {"1": "A", "2": "B"}, "2 questions without a response: 3, 4"),
        (QUESTIONS[:1], {"1": "A", "9": "B"}, "1 responses without a question: 9"),
        ([Question("1", "v", "?", ("a",), None, {})], {"1": "A"}, "1 questions without an answer: 1"),
    ],
)
def test_what_cannot_be_scored_is_named(questions, responses, message):
    with pytest.raises(ValueError, match=message):
        score("mlvu", questions, responses)
