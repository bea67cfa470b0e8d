"""The model of lmms-eval: found by its entry point, made from an argument string, answering its requests."""

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from lmms_eval.api.instance import Instance
from lmms_eval.models.registry_v2 import ModelRegistryV2

from ssmvid.eval.harness.answer import Answerer

GROUP = "lmms_eval.models"
GENERATION = {"max_new_tokens": 6, "temperature": 0, "until": ["\n\n"]}


def model_class():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    registry = ModelRegistryV2()
    for name, value in project["entry-points"][GROUP].items():
        registry.register_manifest(EntryPoint(name, value, GROUP).load()())
    return registry.get_model_class("ssmvid")


def make(folder, **additional):
    arguments = f"pretrained={folder},max_frames=4,fps=2"
    return model_class().create_from_arg_string(arguments, {"device": None, "max_batch_size": None, **additional})


def to_messages(doc):
    contents = [{"type": "video", "url": doc["video"]}, {"type": "text", "text": doc["question"]}]
    return [{"role": "user", "content": contents}]


def requests(task, count):
    arguments = [("what", to_messages, GENERATION, i, task, "test") for i in range(count)]
    metadata = [{"task": task, "doc_id": i, "repeats": 1} for i in range(count)]
    return [Instance("generate_until", own, i, meta) for i, (own, meta) in enumerate(zip(arguments, metadata))]


def test_requests_are_answered_in_order(folder, videos):
    model = make(folder, batch_size="1")
    docs = [{"video": path, "question": word} for path, word in zip(videos, ("what", "here", "what"))]
    model.task_dict["videos"] = {"test": docs}
    kept = []
    model.cache_hook.add_partial = lambda kind, key, answer: kept.append((kind, key, answer))
    got = model.generate_until(requests("videos", 3))
    answerer = Answerer.load(folder, max_frames=4, fps=2.0)
    contents = [[{"type": "video", "video": doc["video"]}, {"type": "text", "text": doc["question"]}] for doc in docs]
    assert got == [answerer.answer([{"role": "user", "content": own}], max_new_tokens=6) for own in contents]
    assert len(set(got)) == 3
    assert kept == [("generate_until", ("what", GENERATION), answer) for answer in got]
    assert (model.rank, model.world_size) == (0, 1)


def test_what_is_not_offered_is_refused(folder):
    with pytest.raises(ValueError, match="one at a time, batch_size must be 1, got 4"):
        make(folder, batch_size=4)
    model = make(folder)
    for ask in (model.loglikelihood, model.generate_until_multi_round):
        with pytest.raises(NotImplementedError, match="take a task of output_type generate_until"):
            ask([])
