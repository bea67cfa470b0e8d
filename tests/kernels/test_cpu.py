"""What the CPU kernels share: tensors as flat memory without copies, and threads."""

import multiprocessing
import threading

import pytest
import torch

from ssmvid_kernels.calls import arguments, find_ops
from ssmvid_kernels.conv import causal_conv1d
from ssmvid_kernels.cpu import flat, parallel


@pytest.fixture
def three_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(threads)


def test_flat_shares_memory_where_rows_are_dense():
    wide = torch.arange(60.0).view(3, 4, 5)
    for view in (wide, wide[:, 1::2, 1:3], wide.transpose(0, 1), wide[:1].expand(3, 4, 5), wide[..., :1]):
        array, strides = flat(view, torch.float32)
        assert array.ctypes.data == view.data_ptr()
        assert torch.equal(torch.from_numpy(array).as_strided(view.shape, strides), view)


def test_flat_copies_to_another_dtype_and_to_dense_rows():
    wide = torch.arange(60.0).view(3, 4, 5)
    for view in (wide.bfloat16()[:, 1::2], wide.mT):
        array, strides = flat(view, torch.float32)
        assert torch.equal(torch.from_numpy(array).as_strided(view.shape, strides), view.float())


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_parallel_runs_every_task_once(three_threads, count):
    done = [0] * count

    def task(i):
        done[i] += 1

    parallel(task, count)
    assert done == [1] * count


def test_parallel_raises_what_a_task_raises(three_threads):
    barrier = threading.Barrier(3, timeout=30)

    def task(i):
        barrier.wait()  # so that each thread has one
        if threading.current_thread() is not threading.main_thread():
            raise KeyError(i)

    with pytest.raises(KeyError):
        parallel(task, 3)


def run_conv(queue):
    op = find_ops()["conv"]
    tensors, options = arguments(op, op.cases.EXACT["ragged"])
    queue.put(op.run(**tensors, **options, backend="cpu").y.sum().item())


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(three_threads):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    run_conv(queue)
    child = context.Process(target=run_conv, args=(queue,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert queue.get(timeout=10) == queue.get(timeout=10)


def test_parameters_keep_a_storage_that_can_be_resized():
    weight = torch.randn(3, 4, requires_grad=True)
    causal_conv1d(torch.randn(1, 5, 3), weight, backend="cpu").y.sum().backward()
    assert weight.untyped_storage().resizable()  # FSDP2 does, between forward and backward
