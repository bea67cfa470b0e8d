"""What no Triton kernel may hold: 32-bit program ids, grids in y or z, atomics, block pointers, inexact matmuls.

Read from the source, so a kernel that no test runs is held to it too.
"""

import ast
from pathlib import Path

import pytest

import ssmvid_kernels

KERNELS = sorted(Path(ssmvid_kernels.__file__).parent.rglob("triton_*.py"))
FORBIDDEN = {
    "num_programs": "pass the number of programs as an argument",
    "make_block_ptr": "use pointers and masks: block pointers have 32-bit offsets",
    "advance": "use pointers and masks: block pointers have 32-bit offsets",
}
ATOMIC = "write one part a program and sum them afterwards: atomics give other bits every run"
WIDEN = "write tl.program_id(0).to(tl.int64): products of it pass 2^31"
AXIS = "use axis 0 alone: y and z hold 65,535 programs"
PRECISION = 'write input_precision="ieee": fp32 factors lose 13 bits without it'


def findings(source: str) -> list[str]:
    """`line: what to do` for everything in a module of kernels that is not allowed."""
    tree = ast.parse(source)
    parent = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = []
    for node in ast.walk(tree):
        name = _triton_name(node)
        if name is None:
            continue
        call = parent.get(node)
        call = call if isinstance(call, ast.Call) and call.func is node else None
        if name.startswith("atomic_"):
            found.append((node.lineno, ATOMIC))
        elif name in FORBIDDEN:
            found.append((node.lineno, FORBIDDEN[name]))
        elif name == "program_id":
            if call is None or not _widened(call, parent):
                found.append((node.lineno, WIDEN))
            if call is None or [ast.unparse(argument) for argument in call.args] != ["0"]:
                found.append((node.lineno, AXIS))
        elif name in ("dot", "dot_scaled") and (call is None or not _exact(call)):
            found.append((node.lineno, PRECISION))
    return [f"{line}: {advice}" for line, advice in sorted(found)]


def _triton_name(node: ast.AST) -> str | None:
    """`name` of `tl.name`, or of what is imported from triton.language under its own name."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("tl", "triton"):
        return node.attr
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "triton.language":
        return node.attr
    return None


def _widened(call: ast.Call, parent: dict[ast.AST, ast.AST]) -> bool:
    """Whether `call` is the object of `.to(tl.int64)`."""
    method = parent.get(call)
    return isinstance(method, ast.Attribute) and ast.unparse(parent[method]).endswith(".to(tl.int64)")


def _exact(call: ast.Call) -> bool:
    return any(keyword.arg == "input_precision" and ast.unparse(keyword.value) == "'ieee'" for keyword in call.keywords)


@pytest.mark.parametrize("module", KERNELS, ids=[f"{path.parent.name}/{path.name}" for path in KERNELS])
def test_kernels_keep_the_rules(module):
    source = module.read_text()
    assert findings(source) == []
    assert "from triton.language import" not in source, "write tl.name: names of its own hide from this test"


def test_there_are_kernels_to_read():
    assert {path.parent.name for path in KERNELS} >= {"s6", "ssd", "conv"}


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("pid = tl.program_id(0)", WIDEN),
        ("at = tl.program_id(0) * n", WIDEN),
        ("at = (tl.program_id(0) * n).to(tl.int64)", WIDEN),
        ("pid = tl.program_id(0).to(tl.int32)", WIDEN),
        ("pid = tl.cast(tl.program_id(axis=0).to(tl.int64), tl.int32)", AXIS),
        ("pid = tl.program_id(1).to(tl.int64)", AXIS),
        ("pid = tl.program_id(axis).to(tl.int64)", AXIS),
        ("n = tl.num_programs(0)", FORBIDDEN["num_programs"]),
        ("tl.atomic_add(ptr, x)", ATOMIC),
        ("tl.atomic_cas(ptr, 0, 1)", ATOMIC),
        ("triton.language.atomic_max(ptr, x)", ATOMIC),
        ("p = tl.make_block_ptr(ptr, (n,), (1,), (0,), (16,), (0,))", FORBIDDEN["make_block_ptr"]),
        ("p = tl.advance(p, (16,))", FORBIDDEN["advance"]),
        ("y = tl.dot(a, b)", PRECISION),
        ("y = tl.dot(a, b, allow_tf32=False)", PRECISION),
        ('y = tl.dot(a, b, input_precision="tf32x3")', PRECISION),
        ("f = tl.dot", PRECISION),
    ],
)
def test_what_is_not_allowed_is_found(line, advice):
    assert findings(f"def kernel():\n    {line}\n") == [f"2: {advice}"]


@pytest.mark.parametrize(
    "line",
    [
        "pid = tl.program_id(0).to(tl.int64)",
        "path = tl.program_id(0).to(tl.int64) % k",
        'y = tl.dot(a, b, c, input_precision="ieee", out_dtype=tl.float32)',
        "y = tl.sum(x, axis=0)",
    ],
)
def test_what_is_allowed_is_not(line):
    assert findings(f"def kernel():\n    {line}\n") == []
