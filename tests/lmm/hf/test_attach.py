"""An encoder in every class of LMM: what the language model reads, what it generates, and what comes back from disk."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from ssmvid.lmm.hf import VisualTokenProcessor, attach, load
from ssmvid.lmm.hf.plug import PLUG_POINTS
from tests.lmm.hf.tiny import NAMES, QWEN2, SPECIAL, WIDTH, make, make_encoder, make_lmm, make_tokenizer

ROOT = Path(__file__).parents[3]
EACH = pytest.mark.parametrize("name", NAMES)
M_ROPE = ["qwen2_5_vl", "qwen3_vl"]
PIXELS = ["pixel_values_videos"]
GREEDY = {
    "do_sample": False,
    "eos_token_id": None,
    "pad_token_id": 0,
    "suppress_tokens": list(range(len(SPECIAL))),  # a placeholder among them would ask for another video
}
SIZES = [(5, 16, 24), (10, 8, 24), (2, 16, 16)]
IN_A_NEW_PROCESS = """
import sys, torch
from ssmvid.lmm.hf import load
for folder in sys.argv[1:]:
    inputs = torch.load(f"{folder}/inputs.pt")
    torch.save(load(folder).generate(**inputs), f"{folder}/got.pt")
"""


def frames(*size):
    return torch.randint(0, 256, (*size[:-2], 3, *size[-2:]), dtype=torch.uint8)


def inputs_for(lmm, prompts=("what {} happens here . {} ?", "{} what"), sizes=SIZES):
    torch.manual_seed(2)
    processor = VisualTokenProcessor.of(lmm, make_tokenizer())
    text = [prompt.replace("{}", processor.video_token) for prompt in prompts]
    return processor(text, [frames(*size) for size in sizes], fps=2.0, padding=True)


def read_by(lmm, **inputs):
    """What reaches the language model."""
    seen = {}
    hook = lmm.model.language_model.register_forward_pre_hook(
        lambda _, __, kwargs: seen.update(kwargs), with_kwargs=True
    )
    with torch.no_grad():
        lmm(**inputs)
    hook.remove()
    return seen


@EACH
@torch.no_grad()
def test_soft_tokens_are_where_the_placeholders_are(name):
    lmm = make(name)
    inputs = inputs_for(lmm)
    encoder, ids = getattr(lmm.model, PLUG_POINTS[name].tower), inputs["input_ids"]
    soft = [encoder(video[None]).last_hidden_state[0] for video in inputs["pixel_values_videos"]]
    assert [len(own) for own in soft] == [encoder.num_tokens(T + T % 2, H, W) for T, H, W in SIZES]
    expected = lmm.get_input_embeddings()(ids)
    expected[ids == lmm.model.placeholder("video")] = torch.cat(soft)
    got = read_by(lmm, **inputs)["inputs_embeds"]
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert [len(own) for own in lmm.model.get_video_features(inputs["pixel_values_videos"]).pooler_output] == list(
        map(len, soft)
    )


@EACH
@torch.no_grad()
def test_images_and_videos(name):
    lmm = make(name)
    processor = VisualTokenProcessor.of(lmm, make_tokenizer())
    text, videos, images = f"{processor.image_token} here", [], [frames(16, 24), frames(8, 16)]
    text = [f"what {text}", f"{text} . {processor.video_token}" if name != "internvl" else text]
    if name != "internvl":
        videos = [frames(4, 16, 16)]
    inputs = processor(text, videos, images, fps=1.0, padding=True)
    encoder, ids = getattr(lmm.model, PLUG_POINTS[name].tower), inputs["input_ids"]
    expected = lmm.get_input_embeddings()(ids)
    for kind, pixels in (("image", "pixel_values"), ("video", "pixel_values_videos")):
        if pixels in inputs:
            soft = [encoder(own[None]).last_hidden_state[0] for own in inputs[pixels]]
            expected[ids == lmm.model.placeholder(kind)] = torch.cat(soft)
    got = read_by(lmm, **inputs)["inputs_embeds"]
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert lmm.generate(**inputs, **GREEDY, max_new_tokens=2).shape == (2, ids.shape[1] + 2)


@EACH
@torch.no_grad()
def test_generating_step_by_step_is_reading_all_again(name):
    lmm = make(name)
    inputs = inputs_for(lmm)
    got, again = lmm.generate(**inputs, **GREEDY, max_new_tokens=4), dict(inputs)
    for _ in range(4):
        new = len(SPECIAL) + lmm(**again).logits[:, -1:, len(SPECIAL) :].argmax(-1)
        again["input_ids"] = torch.cat([again["input_ids"], new], dim=1)
        again["attention_mask"] = torch.cat([again["attention_mask"], torch.ones_like(new)], dim=1)
    assert torch.equal(got, again["input_ids"])
    seen, blind = (
        lmm(**{key: inputs[key] for key in inputs if key not in left}).logits[:, -1] for left in ([], PIXELS)
    )
    assert (seen - blind).abs().amax(1).min() > 1e-2


@EACH
@torch.no_grad()
def test_beams_and_batches_keep_videos_with_their_prompts(name):
    lmm = make(name)
    options = GREEDY | {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 3}
    both = lmm.generate(**inputs_for(lmm), **options)
    processor = VisualTokenProcessor.of(lmm, make_tokenizer())
    torch.manual_seed(2)
    videos = [frames(*size) for size in SIZES]
    for i, (prompt, own) in enumerate((("what {} happens here . {} ?", videos[:2]), ("{} what", videos[2:]))):
        alone = lmm.generate(**processor(prompt.replace("{}", processor.video_token), own, fps=2.0), **options)
        assert torch.equal(both[2 * i : 2 * i + 2, -alone.shape[1] :], alone)


@EACH
def test_its_own_tower_and_projector_are_gone(name):
    lmm, point = make(name), PLUG_POINTS[name]
    left = {key.split(".")[1] for key in lmm.state_dict() if key.startswith("model.")}
    assert left == {"language_model", point.tower}
    assert not any(hasattr(lmm.model, behind) for behind in point.behind)
    original = {key.split(".")[1] for key in make_lmm(name).state_dict() if key.startswith("model.")}
    assert original - {"language_model"} == {point.tower, *point.behind} - {"vision_resampler"}  # it has no weights


@EACH
def test_a_loss_reaches_the_encoder(name):
    lmm = make(name)
    inputs = inputs_for(lmm)
    lmm(**inputs, labels=inputs["input_ids"]).loss.backward()
    encoder = getattr(lmm.model, PLUG_POINTS[name].tower)
    assert [key for key, own in encoder.named_parameters() if own.grad is None or not own.grad.abs().sum() > 0] == []


@EACH
@torch.no_grad()
def test_device_and_dtype_are_the_lmms(name):
    lmm = attach(make_lmm(name).to(torch.bfloat16), make_encoder())
    assert {own.dtype for own in lmm.parameters()} == {torch.bfloat16}
    inputs = inputs_for(lmm)
    assert read_by(lmm, **inputs)["inputs_embeds"].dtype == torch.bfloat16
    assert lmm.generate(**inputs, **GREEDY, max_new_tokens=2).shape[1] == inputs["input_ids"].shape[1] + 2


@torch.no_grad()
def test_everything_comes_back_in_a_new_process(tmp_path):
    expected = {}
    for name in NAMES:
        lmm, folder = make(name), tmp_path / name
        lmm.save_pretrained(folder)
        inputs = dict(inputs_for(lmm)) | GREEDY | {"max_new_tokens": 4}
        torch.save(inputs, folder / "inputs.pt")
        expected[name] = lmm.generate(**inputs)
        again = load(str(folder))
        assert list(again.state_dict()) == list(lmm.state_dict())
        assert all(torch.equal(again.state_dict()[key], own) for key, own in lmm.state_dict().items())
        assert isinstance(again, getattr(transformers, PLUG_POINTS[name].lmm))
    folders = [str(tmp_path / name) for name in NAMES]
    subprocess.run([sys.executable, "-W", "error", "-c", IN_A_NEW_PROCESS, *folders], check=True, cwd=ROOT)
    for name in NAMES:
        assert torch.equal(torch.load(tmp_path / name / "got.pt"), expected[name])


def test_load_takes_transformers_options(tmp_path):
    make("video_llama_3").save_pretrained(tmp_path)
    assert {own.dtype for own in load(str(tmp_path), dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


def test_load_refuses_what_has_no_encoder(tmp_path):
    make_lmm("video_llama_3").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is no LMM with an encoder attached: load it by transformers, then attach"):
        load(str(tmp_path))


@torch.no_grad()
def test_another_encoder_takes_the_first_ones_place():
    lmm, other = make("llava_onevision"), make_encoder(clip_frames=2)
    attach(lmm, other)
    assert lmm.model.vision_tower is other
    assert lmm.config.visual_token_encoder["clip_frames"] == 2
    assert lmm.generate(**inputs_for(lmm), **GREEDY, max_new_tokens=1) is not None


def test_positions_of_qwen2_5_vl_are_those_of_the_soft_tokens():
    """10 frames at 2 a second are 5 token frames, and 3 of soft tokens, each 2 x 2, 5/3 of a second apart."""
    lmm = make("qwen2_5_vl")
    inputs = inputs_for(lmm, ["what {} happens here"], [(10, 16, 24)])
    lmm.config.vision_config.tokens_per_second = 3
    video = [[1 + t, 1 + h, 1 + w] for t in (0, 5, 10) for h in (0, 1) for w in (0, 1)]
    expected = [[0] * 3, *video, [12] * 3, [13] * 3]
    assert read_by(lmm, **inputs)["position_ids"][:, 0].T.tolist() == expected
    assert lmm.model.rope_deltas.tolist() == [[14 - len(expected)]]


def test_positions_of_qwen3_vl_begin_anew_with_each_frame():
    lmm = make("qwen3_vl")
    inputs = inputs_for(lmm, ["what {}"], [(10, 16, 24)])
    kinds, at, expected = inputs["input_ids"][0] == lmm.model.placeholder("video"), 0, []
    for i, is_video in enumerate(kinds.tolist()):
        if not is_video:
            expected.append([at] * 3)
            at += 1
        elif not kinds[i - 1]:
            expected += [[at, at + h, at + w] for h in (0, 1) for w in (0, 1)]
            at += 2
    assert read_by(lmm, **inputs)["position_ids"][:, 0].T.tolist() == expected


@pytest.mark.parametrize("name", M_ROPE)
def test_what_is_said_of_the_dropped_tower_does_not_matter(name):
    lmm = make(name)
    inputs = inputs_for(lmm)
    other = inputs | {"video_grid_thw": torch.ones(3, 3), "mm_token_type_ids": torch.zeros(1)}
    assert torch.equal(read_by(lmm, **inputs)["position_ids"], read_by(lmm, **other)["position_ids"])


def test_what_does_not_fit_is_refused():
    lmm = make_lmm("video_llama_3")
    with pytest.raises(ValueError, match=rf"width of the LMM's embeddings, {WIDTH}, got 12: make .* llm_dim={WIDTH}"):
        attach(lmm, make_encoder(connector={"_target_": "ssmvid.lmm.Storm", "llm_dim": 12}))
    counts = {
        "_target_": "ssmvid.lmm.MambaMia",
        "llm_dim": WIDTH,
        "frame": 4,
        "patches": 2,
        "state_size": 4,
        "head_dim": 8,
    }
    with pytest.raises(ValueError, match=r"MambaMia decides itself how many .* \(MambaMia: threshold=None\)"):
        attach(lmm, make_encoder(connector=counts))
    attach(lmm, make_encoder(connector=counts | {"threshold": None}))
    for other in (lmm.model, transformers.AutoModelForCausalLM.from_config(transformers.Qwen2Config(**QWEN2))):
        with pytest.raises(ValueError, match=r"the LMM must be one of InternVLFor.*, got a .*: give the whole model"):
            attach(other, make_encoder())


def test_wrong_inputs_are_refused():
    lmm = make("internvl")
    inputs = inputs_for(lmm)
    with pytest.raises(
        ValueError, match=r"a placeholder \(3\) for each soft token of the videos, 16, got 0: make them"
    ):
        lmm(**inputs | {"input_ids": torch.ones(1, 4, dtype=torch.long)})
    with pytest.raises(ValueError, match="need input_ids, which say where"):
        lmm(inputs_embeds=torch.zeros(1, 4, WIDTH), pixel_values_videos=inputs["pixel_values_videos"])
    with pytest.raises(ValueError, match="one placeholder stands for images and videos"):
        lmm(**inputs, pixel_values=torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="use_cache must not be False"):
        lmm.generate(**inputs, use_cache=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_that_ends_with_a_video(name):
    lmm = make(name)
    inputs = inputs_for(lmm, ["what {}"], SIZES[1:2])
    if name == "qwen2_5_vl":  # of Qwen3-VL a video ends with a token of its own
        with pytest.raises(ValueError, match="a prompt must end with text, not with an image or a video"):
            lmm.generate(**inputs, **GREEDY)
    else:
        assert lmm.generate(**inputs, **GREEDY, max_new_tokens=1) is not None
