"""Tiny LMMs of every class an encoder can be attached to, an encoder, and a tokenizer: random, nothing downloaded."""

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ssmvid.lmm.hf import VisualTokenEncoderConfig, VisualTokenEncoderModel, attach
from ssmvid.lmm.hf.plug import PLUG_POINTS

WIDTH = 24
SPECIAL = ["<pad>", "<bos>", "<eos>", "<image>", "<video>", "<|vision_start|>", "<|vision_end|>"]
WORDS = ["what", "happens", "here", "?", "seconds", "<", ">", ".", *"0123456789"]
TEXT = {
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": len(SPECIAL) + len(WORDS),
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
QWEN2 = TEXT | {"model_type": "qwen2"}
M_ROPE = {"rope_type": "default", "mrope_section": [1, 1, 1], "rope_theta": 1e4}
VIT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
CLIP = VIT | {"model_type": "clip_vision_model", "image_size": 16, "patch_size": 8}
QWEN_VIT = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH}
CONFIGS = {
    "internvl": {"text_config": QWEN2, "vision_config": VIT | {"image_size": [16, 16], "patch_size": [8, 8]}},
    "llava_next_video": {"text_config": TEXT | {"model_type": "llama"}, "vision_config": CLIP},
    "llava_onevision": {"text_config": QWEN2, "vision_config": CLIP | {"model_type": "siglip_vision_model"}},
    "qwen2_5_vl": {"text_config": TEXT | {"rope_parameters": M_ROPE}, "vision_config": QWEN_VIT},
    "qwen3_vl": {
        "text_config": TEXT | {"rope_parameters": M_ROPE, "head_dim": 6},
        "vision_config": QWEN_VIT | {"deepstack_visual_indexes": [0], "num_position_embeddings": 16},
    },
    "video_llama_3": {"text_config": QWEN2, "vision_config": VIT | {"patch_size": 8}},
}
NAMES = sorted(PLUG_POINTS)
ENCODER = {
    "backbone": "multiscan_tiny",
    "backbone_options": {
        "dim": 16,
        "depth": 2,
        "hybrid": "MW",
        "tubelet": (2, 8, 8),
        "state_size": 4,
        "head_dim": 8,
        "img_size": 16,
    },
    "connector": {
        "_target_": "ssmvid.lmm.MLPConnector",
        "llm_dim": WIDTH,
        "reducer": {"_target_": "ssmvid.lmm.Pool", "stride": (2, 1, 2)},
    },
}


def make_encoder(**changes):
    torch.manual_seed(1)
    return VisualTokenEncoderModel(VisualTokenEncoderConfig(**ENCODER | changes)).eval()


def make_lmm(name):
    torch.manual_seed(0)
    token = "index" if name.startswith("llava") else "id"
    ids = {f"{kind}_token_{token}": SPECIAL.index(f"<{kind}>") for kind in ("image", "video")}
    if name == "internvl":
        del ids["video_token_id"]
    if name.startswith("qwen"):
        ids |= {"vision_start_token_id": 5, "vision_end_token_id": 6}
    lmm_class = getattr(transformers, PLUG_POINTS[name].lmm)
    lmm = lmm_class(lmm_class.config_class(**CONFIGS[name], **ids))
    for parameter in lmm.parameters():  # as they are made, tiny models say the same to anything
        torch.nn.init.normal_(parameter, std=0.3)
    return lmm.eval()


def make(name):
    return attach(make_lmm(name), make_encoder())


def make_tokenizer():
    vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=True)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=SPECIAL[3:],
        padding_side="left",
    )
