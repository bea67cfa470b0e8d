"""What a response means, case by case as each released scorer has it."""

import pytest

from ssmvid.eval.benchmarks import Question, extract

QUESTION = Question("q", "v.mp4", "?", ("A dog barks.", "A cat", "Rain falls on the roof", "Nothing", "Snow"), 0, {})


@pytest.mark.parametrize(
    ("benchmark", "response", "meant"),
    [
        ("video_mme", "C", "C"),
        ("video_mme", " (B) Two.", "B"),
        ("video_mme", "The best answer is D.", "D"),
        ("video_mme", "The answer is: A", "A"),
        ("video_mme", "Best option: C", "B"),  # the released list misses a comma
        ("video_mme", "none of them", None),
        ("video_mme", "E", None),
        ("longvideobench", "Best option: C", "C"),
        ("longvideobench", "The correct option is E.", "E"),
        ("longvideobench", "D. A book", "D"),
        ("longvideobench", "no idea", None),
        ("mlvu", "B) A cat", "B"),
        ("mlvu", "B", "B"),
        ("mlvu", "(B) A cat", None),  # the prompt has opened the bracket
        ("mlvu", "It is B)", None),
        ("lvbench", "(C) Rain", "C"),
        ("lvbench", "D", "D"),
        ("lvbench", "B) A cat", "B"),
        ("lvbench", "The answer is (B)", "B"),
        ("lvbench", "The answer is B", None),
        ("lvbench", "", None),
        ("egoschema", "B", "B"),
        ("egoschema", "(E).", "E"),
        ("egoschema", "D. Nothing", "D"),
        ("egoschema", "I think it is (C), not (D)", "C"),
        ("egoschema", "it seems to me that rain falls on the roof", "C"),
        ("egoschema", "snow", None),
    ],
)
def test_what_a_response_means(benchmark, response, meant):
    found = extract(benchmark, response, QUESTION)
    assert found == (None if meant is None else "ABCDE".index(meant))


def test_a_letter_beyond_the_options_means_nothing():
    two = Question("q", "v.mp4", "?", ("yes", "no"), 0, {})
    assert extract("longvideobench", "C", two) is None
    with pytest.raises(ValueError, match=r"must be one of video_mme, .*got 'mvbench'"):
        extract("mvbench", "A", two)
