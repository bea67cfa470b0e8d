import pytest
import torch

import ssmvid
from ssmvid.lmm import LanguageModel, MLPConnector, Pool, Storm
from ssmvid.parallel import context
from ssmvid.tasks import Needle

DIM, WORDS = 16, 17


def make(connector=None, **options):
    torch.manual_seed(0)
    sizes = {"dim": DIM, "depth": 1, "head_dim": 8, "state_size": 4, "registers": 1, "num_frames": 4, "img_size": 16}
    backbone = ssmvid.create_model("multiscan_tiny", **sizes, tubelet=(1, 8, 8), hybrid="M", num_classes=7)
    connector = connector or Storm(dim=DIM, llm_dim=DIM, pool=(2, 1, 1), state_size=4, causal=True)
    language_model = LanguageModel(vocab_size=WORDS, dim=DIM, depth=1, state_size=4, head_dim=8)
    options = {"answers": 10, "clip_frames": 4, **options}
    return Needle(backbone, connector=connector, language_model=language_model, **options).eval()


FRAMES = torch.randn(3, 3, 8, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS, QUESTIONS = torch.tensor([4, 0, 9]), torch.tensor([[10, 13], [11, 14], [10, 16]])


def test_the_loss_is_the_cross_entropy_of_the_answer():
    output = make()(FRAMES, LABELS, QUESTIONS)
    assert output["logits"].shape == (3, 10)
    by_hand = -output["logits"].log_softmax(-1)[torch.arange(3), LABELS].mean()
    torch.testing.assert_close(output["loss"], by_hand)
    assert make().bfloat16()(FRAMES.bfloat16(), LABELS, QUESTIONS)["loss"].dtype == torch.float32


def test_the_answer_follows_from_frames_and_question():
    task = make()
    logits = task(FRAMES, LABELS, QUESTIONS)["logits"]
    assert (task(FRAMES, LABELS, QUESTIONS.flip(0))["logits"][1] == logits[1]).all()
    assert not torch.allclose(task(FRAMES, LABELS, QUESTIONS.flip(0))["logits"][0], logits[0])
    assert not torch.allclose(task(FRAMES.flip(0), LABELS, QUESTIONS)["logits"][0], logits[0])


def test_a_blind_model_answers_by_the_question_alone():
    """And a question alone tells nothing: tests/data/test_needles.py. So whatever its weights it is at chance."""
    task = make(blind=True)
    logits = task(FRAMES, LABELS, QUESTIONS)["logits"]
    torch.testing.assert_close(task(torch.randn(FRAMES.shape), LABELS, QUESTIONS)["logits"], logits)
    assert not torch.allclose(logits[0], logits[1])


def test_all_parameters_train_and_the_classifier_is_gone():
    task = make().train()
    assert task.model.encoder.backbone.num_classes == 0
    task(FRAMES, LABELS, QUESTIONS)["loss"].backward()
    assert not [name for name, parameter in task.named_parameters() if parameter.grad is None]


def test_what_must_not_decay_is_named():
    task = make()
    names = task.model.no_weight_decay()
    assert names <= {name for name, _ in task.model.named_parameters()}
    for name in ("encoder.backbone.pos_embed", "encoder.connector.mixers.0.A_log"):
        assert name in names
    assert any(name.startswith("language_model.") and name.endswith("A_log") for name in names)


def test_it_learns_what_it_is_shown():
    task = make(MLPConnector(dim=DIM, llm_dim=DIM, reducer=Pool(stride=(1, 2, 2)))).train()
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-2)
    for _ in range(60):
        output = task(FRAMES, LABELS, QUESTIONS)
        output["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (output["logits"].argmax(-1) == LABELS).all()


@pytest.mark.parametrize("clip_frames", [3, None])
def test_longer_clips_go_through_in_parts(clip_frames):
    """In parts of 4 frames, the first part's tokens do not see the second; taken whole they do."""
    task = make(MLPConnector(dim=DIM, llm_dim=DIM, reducer=Pool(stride=(1, 2, 2))), clip_frames=clip_frames)
    changed = torch.cat([FRAMES[:, :, :6], torch.randn(3, 3, 2, 16, 16)], dim=2)
    before, after = (task.model.encoder(frames).tokens[:, :6] for frames in (FRAMES, changed))
    assert torch.allclose(before, after, atol=1e-6) is (clip_frames == 3)


def test_clips_shared_out_over_ranks_are_refused():
    token = context._active.set(object())
    try:
        with pytest.raises(ValueError, match="Needle: not covered by context parallelism"):
            make()(FRAMES, LABELS, QUESTIONS)
    finally:
        context._active.reset(token)
