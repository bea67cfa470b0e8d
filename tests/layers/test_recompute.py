import threading
from contextvars import ContextVar

import pytest
import torch

from ssmvid.layers import before_scan, recompute, token_chunks, tokenwise

seen = ContextVar("seen", default="nothing")


def test_a_part_is_run_again_under_the_context_of_its_forward_on_any_thread():
    looks = []

    def part(x):
        looks.append(seen.get())
        return x.exp()

    x = torch.randn(3, requires_grad=True)
    token = seen.set("something")
    y = recompute(lambda x: recompute(part, x), x).sum()
    seen.reset(token)
    backward = threading.Thread(target=y.backward)  # as a GPU's: it has no context of its own
    backward.start()
    backward.join()
    assert len(looks) > 1
    assert set(looks) == {"something"}
    torch.testing.assert_close(x.grad, x.detach().exp())


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_chunks_change_no_output_and_no_gradient(size):
    x, y = (torch.randn(2, 7, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weight = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    lengths = []

    def part(x, y):
        lengths.append(x.shape[1])
        return (x @ weight).sigmoid() * y

    def trained():
        out = tokenwise(part, x, y)
        return out, torch.autograd.grad(out.square().sum(), (x, y, weight))

    out, grads = trained()
    with token_chunks(size):
        lengths.clear()
        in_chunks, others = trained()
    assert max(lengths) == min(size, 7)
    torch.testing.assert_close(in_chunks, out, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(others, grads, rtol=1e-12, atol=1e-12)


def test_no_tokens_are_no_chunks():
    with token_chunks(3):
        assert tokenwise(torch.exp, torch.ones(2, 0, 4)).shape == (2, 0, 4)


def test_what_a_scan_reads_does_not_hold_on_to_what_it_was_cut_from():
    x = torch.randn(2, 5, 8, requires_grad=True)
    split = lambda x: (x * 2).split((3, 5), dim=-1)
    assert all(part.untyped_storage().nbytes() > part.nbytes for part in before_scan(split, x))
    with token_chunks(1):
        parts = before_scan(split, x)
    assert all(part.untyped_storage().nbytes() == part.nbytes for part in parts)
    torch.testing.assert_close(torch.cat(parts, dim=-1), 2 * x)
