"""Prompts and frames to inputs: as many placeholders as the encoder gives soft tokens."""

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoProcessor

from ssmvid.lmm.hf import VisualTokenProcessor
from tests.lmm.hf.tiny import NAMES, make, make_lmm, make_tokenizer

EACH = pytest.mark.parametrize("name", NAMES)


def frames(*size):
    return torch.randint(0, 256, size, dtype=torch.uint8)


def processor_for(name, **options):
    return VisualTokenProcessor.of(make(name), make_tokenizer(), **options)


@EACH
@pytest.mark.parametrize("sizes", [[(1, 8, 8)], [(9, 16, 40), (4, 24, 8)], [(2, 8, 8), (12, 16, 16), (7, 8, 24)]])
def test_there_are_as_many_placeholders_as_soft_tokens(name, sizes):
    processor = processor_for(name)
    encoder, text = processor._model, " what ".join([processor.video_token] * len(sizes))
    inputs = processor(text, [frames(T, 3, H, W) for T, H, W in sizes], fps=1)
    ids = processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    assert ids.count(processor.video_token) == sum(encoder.num_tokens(T + T % 2, H, W) for T, H, W in sizes)
    assert [tuple(own.shape) for own in inputs["pixel_values_videos"]] == [(T + T % 2, 3, H, W) for T, H, W in sizes]
    assert set(inputs) == {"input_ids", "attention_mask", "pixel_values_videos"} | (
        {"second_per_grid_ts"} if name.startswith("qwen") else set()
    )


def test_frames_are_normalised_and_the_last_repeated():
    processor = processor_for("video_llama_3")
    video = frames(3, 3, 8, 8)
    got = processor("<video>", [video])["pixel_values_videos"][0]
    cfg = processor._model.encoder.backbone.pretrained_cfg
    mean, std = (torch.tensor(cfg[key])[:, None, None] for key in ("mean", "std"))
    torch.testing.assert_close(got, (video[[0, 1, 2, 2]] / 255 - mean) / std)


def test_frames_are_resized():
    processor = processor_for("video_llama_3", size=(16, 24))
    video, image = frames(2, 3, 33, 50), frames(3, 9, 9)
    inputs = processor("<video> <image>", [video], [image])
    assert inputs["pixel_values_videos"][0].shape == (2, 3, 16, 24)
    assert inputs["pixel_values"][0].shape == (2, 3, 16, 24)
    even = torch.full((2, 3, 33, 50), 77, dtype=torch.uint8)
    whole = processor("<video>", [even])["pixel_values_videos"][0]
    assert torch.equal(whole, whole[:, :, :1, :1].expand_as(whole))
    blurred = F.interpolate(video.float(), (16, 24), mode="bilinear", antialias=True).round() / 255
    cfg = processor._model.encoder.backbone.pretrained_cfg
    mean, std = (torch.tensor(cfg[key])[:, None, None] for key in ("mean", "std"))
    torch.testing.assert_close(inputs["pixel_values_videos"][0], (blurred - mean) / std, atol=1.01 / 255 / 0.22, rtol=0)


def test_qwen3_vl_is_told_the_second_of_each_frame():
    processor = processor_for("qwen3_vl")
    tokens = "<video>" * 4
    frame = f"<|vision_start|>{tokens}<|vision_end|>"
    expected = f"what <0.8 seconds>{frame}<2.8 seconds>{frame} here"  # frames 0 to 3 and 4 to 7, two a second
    for prompt in ("what <video> here", "what <|vision_start|><video><|vision_end|> here"):
        ids = processor(prompt, [frames(8, 3, 16, 24)], fps=2)["input_ids"]
        assert ids.tolist() == processor.tokenizer([expected])["input_ids"]
    assert processor("<video>", [frames(8, 3, 8, 8)], fps=2)["second_per_grid_ts"].tolist() == [2.0]


def test_fps_may_be_one_a_video():
    processor = processor_for("qwen2_5_vl")
    videos = [frames(8, 3, 8, 8), frames(4, 3, 8, 8)]
    assert processor("<video> <video>", videos, fps=[2, 4])["second_per_grid_ts"].tolist() == [2.0, 1.0]


@EACH
def test_it_comes_back(name, tmp_path):
    processor = processor_for(name, size=(16, 24))
    processor.save_pretrained(tmp_path)
    inputs = {"videos": [frames(5, 3, 20, 20)], "fps": 2, "text": f"what {processor.video_token} here"}
    for again in (VisualTokenProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert isinstance(again, VisualTokenProcessor)
        expected, got = processor(**inputs), again(**inputs)
        assert torch.equal(got["input_ids"], expected["input_ids"])
        assert torch.equal(got["pixel_values_videos"][0], expected["pixel_values_videos"][0])


def test_inputs_follow_to_a_dtype():
    processor = processor_for("video_llama_3")
    inputs = processor("<video>", [frames(2, 3, 8, 8)]).to(torch.bfloat16)
    assert inputs["pixel_values_videos"][0].dtype == torch.bfloat16
    assert inputs["input_ids"].dtype == torch.int64


def test_what_does_not_fit_is_refused():
    processor = processor_for("qwen2_5_vl")
    video = frames(2, 3, 8, 8)
    with pytest.raises(ValueError, match="must have one <video> for each of 2 videos or images, got 1"):
        processor("<video>", [video, video], fps=1)
    with pytest.raises(ValueError, match="must have one <image> for each of 0 videos or images, got 1"):
        processor("<image>")
    with pytest.raises(ValueError, match="fps must be the frames a second of each of 1 videos, got None"):
        processor("<video>", [video])
    with pytest.raises(ValueError, match=r"fps must be the frames a second of each of 1 videos, got \[1, 2\]"):
        processor("<video>", [video], fps=[1, 2])
    with pytest.raises(TypeError, match=r"must be uint8 \(T, c, H, W\), got torch.float32"):
        processor("<video>", [video.float()], fps=1)
    with pytest.raises(ValueError, match=r"T, H, W must be multiples of \(2, 8, 8\), got \(2, 9, 8\): resize or crop"):
        processor("<video>", [frames(2, 3, 9, 8)], fps=1)
    with pytest.raises(ValueError, match="one placeholder stands for images and videos"):
        processor_for("internvl")("<image> <image>", [video], [video[0]])
    with pytest.raises(ValueError, match="this InternVLForConditionalGeneration has no encoder: attach one first"):
        VisualTokenProcessor.of(make_lmm("internvl"), make_tokenizer())
