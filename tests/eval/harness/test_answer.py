"""An answer is what the LMM generates for the frames chosen, said in words."""

import pytest
import torch
from PIL import Image

from ssmvid.data import frame_times, read_frames
from ssmvid.eval.harness.answer import Answerer
from ssmvid.lmm.hf import VisualTokenProcessor, load


def asked(*contents):
    return [{"role": "user", "content": list(contents)}]


def text(words):
    return {"type": "text", "text": words}


def video(path, **times):
    return {"type": "video", "video": path, **times}


def expected(folder, prompt, indices, path, images=(), **generation):
    lmm, processor = load(folder), VisualTokenProcessor.from_pretrained(folder)
    times = frame_times(path)
    rate = (len(indices) - 1) / (times[indices[-1]] - times[indices[0]])
    frames = [read_frames(path, indices)]
    inputs = processor(prompt, frames, images, fps=[rate], add_special_tokens=False)
    ids = lmm.generate(**inputs, do_sample=False, **generation)
    return processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


@pytest.mark.parametrize(
    ("frames", "indices"),
    [
        ({"max_frames": 4, "fps": None}, [4, 12, 20, 28]),
        ({"max_frames": None, "rate": 1 / 8}, [0, 8, 16, 24]),
        ({"max_frames": 2, "rate": 1 / 8}, [8, 24]),
    ],
)
def test_frames_are_a_number_a_rate_or_a_rate_up_to_a_number(folder, videos, frames, indices):
    times = frame_times(videos[0])
    if "rate" in frames:
        frames = {"max_frames": frames["max_frames"], "fps": frames["rate"] / (times[1] - times[0])}
    got = Answerer.load(folder, **frames).answer(asked(video(videos[0]), text("what")), max_new_tokens=5)
    assert got == expected(folder, "<bos><video> what ", indices, videos[0], max_new_tokens=5)
    assert got


def test_a_stretch_of_a_video(folder, videos):
    times = frame_times(videos[0]) - frame_times(videos[0])[0]
    answerer = Answerer.load(folder, max_frames=4, fps=None)
    stretch = video(videos[0], video_start=float(times[8]), video_end=float(times[15]))
    got = answerer.answer(asked(stretch, text("here")), max_new_tokens=5)
    assert got == expected(folder, "<bos><video> here ", [9, 11, 13, 15], videos[0], max_new_tokens=5)
    with pytest.raises(ValueError, match=r"shows nothing between 90\.0 and 99\.0 s, it lasts"):
        answerer.answer(asked(video(videos[0], video_start=90.0, video_end=99.0), text("here")))


def test_images_among_the_contents(folder, videos, tmp_path):
    picture = Image.new("RGB", (16, 16), (200, 10, 90))
    picture.save(tmp_path / "a.png")
    answerer, pixels = Answerer.load(folder, max_frames=2, fps=None), torch.tensor([200, 10, 90], dtype=torch.uint8)
    stills = [pixels[:, None, None].expand(-1, 16, 16)] * 2
    images = [{"type": "image", "image": own} for own in (str(tmp_path / "a.png"), picture)]
    got = answerer.answer(asked(images[0], video(videos[1]), images[1], text("what")), max_new_tokens=5)
    assert got == expected(folder, "<bos><image> <video> <image> what ", [8, 24], videos[1], stills, max_new_tokens=5)


def test_an_answer_ends_before_what_is_not_to_be_said(folder, videos):
    answerer = Answerer.load(folder, max_frames=2, fps=None)
    conversation = asked(video(videos[0]), text("what"))
    whole = answerer.answer(conversation, max_new_tokens=8, temperature=0, top_p=None, image_aspect_ratio="pad")
    words = whole.split()
    assert len(set(words)) > 1
    end = next(word for word in words if word != words[0])
    assert answerer.answer(conversation, max_new_tokens=8, until=[end, "never"]) == whole.split(end)[0].strip()


def test_sampling_follows_the_temperature(folder, videos):
    answerer = Answerer.load(folder, max_frames=2, fps=None)
    conversation = asked(video(videos[0]), text("what"))
    torch.manual_seed(0)
    hot = {answerer.answer(conversation, max_new_tokens=8, temperature=50.0) for _ in range(3)}
    assert len(hot) > 1


def test_what_is_missing_is_said(folder):
    with pytest.raises(ValueError, match="give max_frames or fps, got None for both"):
        Answerer.load(folder, max_frames=None, fps=None)
    answerer = Answerer.load(folder)
    answerer.processor.chat_template = answerer.processor.tokenizer.chat_template = None
    with pytest.raises(ValueError, match="chat_template"):
        answerer.answer(asked(text("what")))
