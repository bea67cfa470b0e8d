"""A video into a language model, offline: an LMM, its vision tower replaced by a MultiScan encoder, reads an mp4.

    python examples/lmm_video.py video.mp4 --out folder                     # a VideoLLaMA3 and a Qwen2.5-VL
    python examples/lmm_video.py video.mp4 --load folder/qwen2_5_vl         # what was saved there

The models are tiny and random: what they say means nothing. Each is saved, loaded in a new process, and must say the
same there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from ssmvid.data import iter_frames
from ssmvid.lmm.hf import VisualTokenEncoderConfig, VisualTokenEncoderModel, VisualTokenProcessor, attach, load

FPS = 8
PROMPT = "<video> what happens in the video ?"
SPECIAL = ["<pad>", "<image>", "<video>"]
WORDS = ["a", "bar", "code", "counts", "frames", "grey", "happens", "in", "is", "of", "the", "video", "what", "?"]
TEXT = {
    "vocab_size": len(SPECIAL) + len(WORDS),
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
IDS = {"image_token_id": 1, "video_token_id": 2}
MROPE = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
LMMS = {
    "video_llama_3": (
        transformers.VideoLlama3ForConditionalGeneration,
        {"text_config": TEXT | {"model_type": "qwen2"}, "vision_config": {"num_hidden_layers": 1}},
    ),
    "qwen2_5_vl": (
        transformers.Qwen2_5_VLForConditionalGeneration,
        {"text_config": TEXT | {"rope_parameters": MROPE}, "vision_config": {"hidden_size": 64, "depth": 1}},
    ),
}


def make_lmm(name: str) -> Any:
    """A tiny random LMM; in earnest: `transformers.AutoModelForImageTextToText.from_pretrained(...)`."""
    lmm_class, configs = LMMS[name]
    return lmm_class(lmm_class.config_class(**configs, **IDS)).eval()


def make_encoder(width: int) -> VisualTokenEncoderModel:
    """A small `multiscan_tiny` and STORM's connector to soft tokens of an LMM's width."""
    config = VisualTokenEncoderConfig(
        backbone="multiscan_tiny",
        backbone_options={"depth": 4, "img_size": 64, "tubelet": (2, 16, 16)},
        connector={"_target_": "ssmvid.lmm.Storm", "llm_dim": width, "pool": (2, 1, 1)},
    )
    return VisualTokenEncoderModel(config).eval()


def make_tokenizer() -> Any:
    """Words by white space; in earnest: `transformers.AutoTokenizer.from_pretrained(...)`."""
    words = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", additional_special_tokens=SPECIAL[1:]
    )


def answer(lmm: Any, processor: VisualTokenProcessor, video: str) -> str:
    """What the LMM says of a video file."""
    frames = torch.stack([frame for frame, _ in iter_frames(video, fps=FPS)])
    inputs = processor(PROMPT, videos=[frames], fps=FPS)
    said = lmm.generate(**inputs, max_new_tokens=12, do_sample=False)
    return processor.tokenizer.decode(said[0, inputs["input_ids"].shape[1] :])


def main(argv: Sequence[str] | None = None) -> dict[str, str]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("--out", type=Path, help="folder to save the models in")
    parser.add_argument("--load", type=Path, nargs="+", help="folders of saved models: read the video by these")
    args = parser.parse_args(argv)
    if args.load:
        said = {}
        for folder in args.load:
            said[folder.name] = answer(load(str(folder)), VisualTokenProcessor.from_pretrained(folder), args.video)
            print(f"{folder.name}: {said[folder.name]}")
        return said
    if args.out is None:
        parser.error("give --out or --load")
    said = {}
    for name in LMMS:
        torch.manual_seed(0)
        lmm = make_lmm(name)
        attach(lmm, make_encoder(lmm.config.text_config.hidden_size))
        processor = VisualTokenProcessor.of(lmm, make_tokenizer(), size=(64, 64))
        said[name] = answer(lmm, processor, args.video)
        print(f"{name}: {said[name]}")
        lmm.save_pretrained(args.out / name)
        processor.save_pretrained(args.out / name)
    command = [sys.executable, __file__, args.video, "--load", *(str(args.out / name) for name in LMMS)]
    again = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if again != "".join(f"{name}: {text}\n" for name, text in said.items()):
        raise RuntimeError(f"what was loaded says something else:\n{again}")
    print("the same again in a new process")
    return said


if __name__ == "__main__":
    main()
