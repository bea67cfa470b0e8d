import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from ssmvid.engine.score import Score


@pytest.mark.parametrize("classes", [2, 3, 5, 11])
def test_uneven_batches_give_the_numbers_of_one_batch(classes):
    torch.manual_seed(0)
    logits, labels = torch.randn(23, classes), torch.randint(classes, (23,))
    score = Score()
    for part in (slice(0, 1), slice(1, 9), slice(9, 23)):
        loss = torch.nn.functional.cross_entropy(logits[part], labels[part])
        score.count(logits[part], labels[part], loss)
    numbers = score.compute()
    assert numbers["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-6)
    for name, k in (("top1", 1), ("top5", min(5, classes))):
        expected = multiclass_accuracy(logits, labels, num_classes=classes, top_k=k, average="micro")
        assert numbers[name] == pytest.approx(expected.item(), abs=1e-6)
    assert (numbers["n_ok"], numbers["n_failed"]) == (23, 0)


def test_a_failed_video_is_a_wrong_answer():
    score = Score()
    score.count(torch.eye(4), torch.arange(4), torch.tensor(0.5))
    score.fail(4)
    assert score.compute() == {"loss": 0.5, "top1": 0.5, "top5": 0.5, "n_ok": 4, "n_failed": 4}


def test_nothing_to_score_has_no_accuracy():
    score = Score()
    score.fail(0)
    assert score.compute() == {"loss": None, "top1": None, "top5": None, "n_ok": 0, "n_failed": 0}


def test_sums_carry_a_score_over():
    one, other = Score(), Score()
    one.count(torch.eye(4), torch.arange(4).flip(0), torch.tensor(0.1))
    other.update(one.sums())
    assert other.compute() == one.compute()
