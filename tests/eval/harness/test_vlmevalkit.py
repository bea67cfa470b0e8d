"""The model of VLMEvalKit: made from its table, answering its messages, with a data set's frames."""

import pytest
from vlmeval.config import supported_VLM

from ssmvid.eval.harness.answer import Answerer
from ssmvid.eval.harness.vlmevalkit import register


def test_a_message_is_answered_with_the_data_sets_frames(folder, videos):
    register("tiny", folder, nframe=2, max_new_tokens=6)
    try:
        model = supported_VLM["tiny"]()
        with pytest.raises(ValueError, match="has a model 'tiny' already"):
            register("tiny", folder)
    finally:
        del supported_VLM["tiny"]
    message = [{"type": "video", "value": videos[0]}, {"type": "text", "value": "what"}]
    conversation = [
        {"role": "user", "content": [{"type": "video", "video": videos[0]}, {"type": "text", "text": "what"}]}
    ]
    assert model.VIDEO_LLM
    assert not model.use_custom_prompt("Video-MME")
    # As a data set asks for a number of frames, or for a rate: the other is then None.
    for nframe, fps in ((2, 1.0), (4, None), (None, 2.0)):
        model.nframe, model.fps = nframe, fps
        answerer = Answerer.load(folder, max_frames=nframe, fps=fps)
        assert model.generate(message, "Video-MME") == answerer.answer(conversation, max_new_tokens=6)
