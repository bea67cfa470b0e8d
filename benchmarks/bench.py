"""Time an op: every implementation that can run here beside its peers, exact first.

python benchmarks/bench.py                                        # selective_scan on the CPU
python benchmarks/bench.py op=conv pass=fwd
python benchmarks/bench.py op=ssd pass=fwdbwd k=[1,2,4,6,8] backends=[cpu]     # fused paths beside unfused ones
python benchmarks/bench.py op=ssd l=[1024,4096,16384,65536]                    # time and memory against length
python benchmarks/bench.py device=cuda dtype=bfloat16

A row is written only for an implementation whose result on that very shape is right: within 3 times the reference's
own rounding of the float64 answer. It holds the milliseconds, the bytes and operations the op cannot do without and
what part of the time this device would need for them at its measured best, and the peak of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import peers
import torch
from machine import device_name, measure, peak_mib, peaks, save
from omegaconf import DictConfig, ListConfig
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ssmvid.scan import Grid, ScanOrder
from ssmvid_kernels import backends
from ssmvid_kernels.calls import Op, find_ops
from ssmvid_kernels.testing import Tensors, assert_as_exact, outputs_and_gradients

# What is timed of each op: the arguments beside x and the call.
CALLS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "s6": (("x", "dt", "A", "B", "C", "D", "dt_bias"), dict(dt_softplus=True)),
    "ssd": (("x", "dt", "A", "B", "C", "D", "dt_bias"), dict(dt_softplus=True)),
    "conv": (("x", "weight", "bias"), dict(activation="silu")),
    "rms_norm": (("x", "weight", "residual"), {}),
    "layer_norm": (("x", "weight", "bias", "residual"), {}),
}
# Steps of all paths up to which the reference says what is right: it keeps every state in float64. Past them `torch`
# does, itself held to the reference.
LONGEST_LOOP = 4096


class Work(NamedTuple):
    """One shape and pass: the op's inputs and options, and what is right."""

    op: Op
    case: Any
    tensors: Tensors
    options: dict[str, Any]
    which: str

    def run(self, implementation: Callable[..., Any]) -> Callable[[], object]:
        """One call of what is timed."""
        call = partial(implementation, **self.tensors, **self.options)

        def forward() -> None:
            with torch.no_grad():
                call()

        def both() -> None:
            y = call()[0]
            torch.autograd.grad(y, list(self.tensors.values()), torch.ones_like(y), allow_unused=True)

        return forward if self.which == "fwd" else both

    def results(self, implementation: Callable[..., Any], tensors: Tensors) -> Tensors:
        """y, and in a backward pass every gradient."""
        only_y = lambda **given: (implementation(**given, **self.options)[0],)
        if self.which == "fwd":
            with torch.no_grad():
                return {"y": only_y(**tensors)[0]}
        return outputs_and_gradients(only_y, tensors)

    def right(self) -> dict[str, tuple[Tensor, Tensor]]:
        """For each output, the reference in the dtype measured and in float64."""
        by = partial(self.op.run, backend="torch" if self.too_long_a_loop() else "reference")
        doubles = {name: tensor.detach().double().requires_grad_() for name, tensor in self.tensors.items()}
        exact, plain = self.results(by, doubles), self.results(by, self.tensors)
        return {name: (plain[name], exact[name]) for name in exact}

    def too_long_a_loop(self) -> bool:
        """Whether the reference goes through more steps than time and its own rounding allow."""
        return self.case.l * max(getattr(self.case, "k", 0), 1) > LONGEST_LOOP

    def moved(self, outputs: dict[str, tuple[Tensor, Tensor]]) -> int:
        """Bytes that must be moved: every input and output once; backward, the inputs and y's gradient again."""
        size = lambda tensors: sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        once = size(self.tensors.values()) + size(plain for plain, _ in outputs.values())
        return once if self.which == "fwd" else once + size(self.tensors.values()) + size([outputs["y"][0]])

    def flops(self, implementation: Callable[..., Any]) -> int:
        """Operations, as torch's own counter has them."""
        with FlopCounterMode(display=False) as counter:
            self.run(implementation)()
        return counter.get_total_flops()


@hydra.main(version_base="1.3", config_path=".", config_name="bench")
def main(cfg: DictConfig) -> None:
    torch.set_num_threads(cfg.threads)
    print(f"{find_ops()[cfg.op].run.__name__} on {device_name(cfg.device)}, {cfg.dtype}")
    rows = measured(cfg)
    if cfg.out:
        save(rows, Path(cfg.out), cfg.device)
    else:
        list(rows)


def measured(cfg: DictConfig) -> Iterator[dict[str, Any]]:
    """A row for every shape, pass and implementation, as each is done."""
    fixed = dict(op=cfg.op, dtype=cfg.dtype, threads=cfg.threads)
    too_slow: set[tuple[str, str]] = set()
    for name, paths, length, which in product(*(several(cfg[key]) for key in ("case", "k", "l", "pass"))):
        work = prepare(cfg, name, paths, length, which)
        right = work.right()
        best = peaks(cfg.device, getattr(torch, cfg.dtype))
        base = None
        for implementation, run, same, within in implementations(cfg, work, paths):
            if (implementation, which) in too_slow:
                print(f"  {name:6} {which:6} {implementation:20} takes over {cfg.limit} s a call at a shorter length")
                continue
            if same:
                for output, got in work.results(run, work.tensors).items():
                    assert_as_exact(f"{implementation} {output}", got, *right[output], factor=within)
            fast, median, slow = measure(work.run(run), cfg.device, cfg.seconds)
            base = base or median
            moved, flops = work.moved(right), work.flops(partial(work.op.run, backend="auto"))
            row = dict(case=name, **work.case._asdict()) | {"pass": which, "backend": implementation}
            row |= dict(k=paths, ms=median, p20=fast, p80=slow, ratio=base / median, same=same)
            row |= dict(bytes=moved, flops=flops, floor_ms=best.floor_ms(moved, flops))
            row |= dict(peak_mib=peak_mib(work.run(run), cfg.device))
            shape = f"{name:6} l={work.case.l:<8}k={paths}  {which:6} {implementation:20}"
            print(f"  {shape} {median:10.2f} ms  ({fast:.2f}-{slow:.2f})  {base / median:6.1f}x", flush=True)
            yield fixed | row
            if median > 1e3 * cfg.limit:
                too_slow.add((implementation, which))


def several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, ListConfig) else [value]


def prepare(cfg: DictConfig, name: str, paths: int, length: int | None, which: str) -> Work:
    op = find_ops()[cfg.op]
    case = op.cases.SPEED[name]
    case = case._replace(l=length or case.l, **({"k": paths} if paths else {}))
    inputs = op.cases.make_inputs(case, getattr(torch, cfg.dtype))
    names, options = CALLS[cfg.op]
    tensors = {key: inputs[key].detach().to(cfg.device).requires_grad_() for key in names}
    if paths:
        side = 16 if length else 14
        grid = Grid(case.l // side**2, side, side)
        if grid.length != case.l:
            raise ValueError(f"l must be a multiple of {side**2} where k > 0, got {case.l}")
        options = options | {"walks": [ScanOrder.parse(order).walk(grid) for order in cfg.orders[:paths]]}
    return Work(op, case, tensors, options, which)


def implementations(cfg: DictConfig, work: Work, paths: int) -> Iterator[tuple[str, Callable[..., Any], bool, float]]:
    """Name, function, whether it computes the op, and how many times the reference's rounding it may be off.

    The peers first, then every implementation of ours; what cannot run is named with the reason.
    """
    for peer in peers.peers(cfg.op, work.op.run, paths):
        if reason := peer.why_not(cfg.device):
            print(f"  without {peer.name}: {reason}")
        else:
            yield peer.name, peer.run, peer.same, 30.0  # the same function; its rounding is its own
    for backend in cfg.backends:
        reasons = backends.why_not(backend, torch.device(cfg.device))
        if backend == "reference" and work.too_long_a_loop():
            reasons = [*reasons, f"over {LONGEST_LOOP:,} steps; torch in float64 is the judge here"]
        if reasons:
            print(f"  without {backend}: {'; '.join(reasons)}")
        else:
            yield backend, partial(work.op.run, backend=backend), True, 3.0


if __name__ == "__main__":
    main()
