from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from ssmvid.cli import main


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def ssmvid(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """`ssmvid("models", "*tiny")`: one command, its exit code and what it printed."""

    def run(*argv: object) -> Done:
        capsys.readouterr()
        try:
            code = main([str(arg) for arg in argv])
        except SystemExit as exit:  # argparse, or a signal
            code = exit.code
        return Done(code, *capsys.readouterr())

    return run
