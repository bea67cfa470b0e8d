"""A saved LMM with an encoder, videos, and the harnesses: themselves, or as they are published where not installed."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from ssmvid.data import write_videos
from ssmvid.lmm.hf import VisualTokenProcessor
from tests.lmm.hf.tiny import SPECIAL, make, make_tokenizer

if not all(importlib.util.find_spec(name) for name in ("lmms_eval", "vlmeval")):
    sys.path.append(str(Path(__file__).parent / "published"))

TEMPLATE = (
    "{% for message in messages %}<bos>{% for own in message['content'] %}"
    "{{ own['text'] if own['type'] == 'text' else '<' + own['type'] + '>' }} {% endfor %}{% endfor %}"
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lmm")
    lmm = make("qwen2_5_vl")
    torch.manual_seed(0)
    for parameter in lmm.parameters():  # so that an answer depends on what is seen
        torch.nn.init.normal_(parameter)
    lmm.generation_config.suppress_tokens = list(range(len(SPECIAL)))  # and is made of words
    lmm.save_pretrained(folder)
    processor = VisualTokenProcessor.of(lmm, make_tokenizer(), size=(16, 24))
    processor.chat_template = TEMPLATE
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    write_videos(root, frames=32, train_clips=2, val_clips=2)
    return sorted(map(str, root.rglob("*.mp4")))
