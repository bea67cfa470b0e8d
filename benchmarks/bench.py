"""Time an op: every implementation that can run here beside its peer, exact first.

python benchmarks/bench.py                                  # selective_scan on the CPU
python benchmarks/bench.py op=conv passes=[fwd]
python benchmarks/bench.py device=cuda dtype=bfloat16

A row is written only for an implementation whose result on that very shape is right: within 3 times the reference's
own rounding of the float64 answer.
"""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any

import hydra
import peers
import torch
import triton
from omegaconf import DictConfig

from ssmvid_kernels import backends, causal_conv1d, layer_norm, rms_norm, selective_scan, ssd_scan
from ssmvid_kernels.conv import cases as conv_cases
from ssmvid_kernels.norm import cases as norm_cases
from ssmvid_kernels.s6 import cases as s6_cases
from ssmvid_kernels.ssd import cases as ssd_cases
from ssmvid_kernels.testing import Tensors, assert_as_exact, outputs_and_gradients

OPS: dict[str, dict[str, Any]] = {
    "s6": dict(
        cases=s6_cases,
        op=selective_scan,
        tensors=("x", "dt", "A", "B", "C", "D", "dt_bias"),
        options=dict(dt_softplus=True),
        peer=("unbind loop", peers.selective_scan_loop, {}),
    ),
    "ssd": dict(
        cases=ssd_cases,
        op=ssd_scan,
        tensors=("x", "dt", "A", "B", "C", "D", "dt_bias"),
        options=dict(dt_softplus=True),
        peer=("unbind loop", peers.ssd_scan_loop, {}),
    ),
    "conv": dict(
        cases=conv_cases,
        op=causal_conv1d,
        tensors=("x", "weight", "bias"),
        options=dict(activation="silu"),
        peer=("F.conv1d", peers.causal_conv1d_grouped, dict(activation="silu")),
    ),
    "rms_norm": dict(
        cases=norm_cases,
        op=rms_norm,
        tensors=("x", "weight", "residual"),
        options={},
        peer=("F.rms_norm", peers.rms_norm_added, {}),
    ),
    "layer_norm": dict(
        cases=norm_cases,
        op=layer_norm,
        tensors=("x", "weight", "bias", "residual"),
        options={},
        peer=("F.layer_norm", peers.layer_norm_added, {}),
    ),
}


@hydra.main(version_base="1.3", config_path=".", config_name="bench")
def main(cfg: DictConfig) -> None:
    torch.set_num_threads(cfg.threads)
    op = OPS[cfg.op]
    rows = []
    print(f"{op['op'].__name__} on {device_name(cfg.device)}, {cfg.dtype}")
    for name in cfg.cases:
        case = op["cases"].SPEED[name]
        inputs = op["cases"].make_inputs(case, getattr(torch, cfg.dtype))
        tensors = {key: inputs[key].detach().to(cfg.device).requires_grad_() for key in op["tensors"]}
        runs = implementations(op, cfg.device, cfg.backends)
        for which in cfg.passes:
            exact = reference(op, tensors, which)
            base = None
            for backend, run in runs.items():
                check(backend, run, op, tensors, which, exact)
                fast, median, slow = measure(timed(run, tensors, which), cfg.device, cfg.seconds)
                base = base or median
                rows.append(
                    dict(op=cfg.op, case=name, **case._asdict(), **{"pass": which}, backend=backend, ms=median)
                    | dict(p20=fast, p80=slow, ratio=base / median, dtype=cfg.dtype, threads=cfg.threads)
                )
                print(
                    f"  {name:6} {which:6} {backend:12} {median:10.2f} ms  ({fast:.2f}-{slow:.2f})"
                    f"  {base / median:6.1f}x",
                    flush=True,
                )
    if cfg.out:
        save(rows, Path(cfg.out), cfg.device)


def implementations(op: dict[str, Any], device: str, names: list[str]) -> dict[str, Callable[..., Any]]:
    """The peer first, then every implementation of ours in `names` that can run on `device`."""
    name, peer, options = op["peer"]
    runs = {name: partial(peer, **options)}
    for backend in names:
        if not backends.why_not(backend, torch.device(device)):
            runs[backend] = partial(op["op"], backend=backend, **op["options"])
    return runs


def reference(op: dict[str, Any], tensors: Tensors, which: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """For each output, the reference in the dtype measured and in float64."""
    run = partial(op["op"], backend="reference", **op["options"])
    doubles = {name: tensor.detach().double().requires_grad_() for name, tensor in tensors.items()}
    exact, plain = results(run, doubles, which), results(run, tensors, which)
    return {name: (plain[name], exact[name]) for name in exact}


def results(run: Callable[..., Any], tensors: Tensors, which: str) -> Tensors:
    only_y = lambda **tensors: (run(**tensors)[0],)
    if which == "fwd":
        with torch.no_grad():
            return {"y": only_y(**tensors)[0]}
    return outputs_and_gradients(only_y, tensors)


def check(
    name: str, run: Callable[..., Any], op: dict[str, Any], tensors: Tensors, which: str, exact: dict[str, Any]
) -> None:
    if name == op["peer"][0]:
        return
    got = results(run, tensors, which)
    for output, (plain, right) in exact.items():
        assert_as_exact(f"{name} {output}", got[output], plain, right)


def timed(run: Callable[..., Any], tensors: Tensors, which: str) -> Callable[[], None]:
    weight = torch.ones_like(tensors["x"])

    def forward() -> None:
        with torch.no_grad():
            run(**tensors)

    def both() -> None:
        torch.autograd.grad(run(**tensors)[0], list(tensors.values()), weight)

    return forward if which == "fwd" else both


def measure(run: Callable[[], None], device: str, seconds: float) -> tuple[float, float, float]:
    """The 20th, 50th and 80th percentile of the milliseconds of one call, after one that is not counted."""
    run()
    times: list[float] = []
    for _ in runs_for(seconds):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    fast, _, _, slow = quantiles(times, n=5)
    return fast, sorted(times)[len(times) // 2], slow


def runs_for(seconds: float) -> Iterator[int]:
    start, i = time.perf_counter(), 0
    while i < 5 or time.perf_counter() - start < seconds:
        yield i
        i += 1


def device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())


def save(rows: list[dict[str, Any]], folder: Path, device: str) -> None:
    """Append the rows to <device>.jsonl, each with what it takes to repeat it."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    where = dict(
        device=device_name(device),
        torch=torch.__version__,
        triton=triton.__version__,
        python=platform.python_version(),
        commit=commit,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    name = "".join(c if c.isalnum() else "-" for c in where["device"].lower())
    with open(folder / f"{name}.jsonl", "a") as file:
        for row in rows:
            file.write(json.dumps(row | where) + "\n")


if __name__ == "__main__":
    main()
