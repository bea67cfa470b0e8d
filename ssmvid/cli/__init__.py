"""`ssmvid` on the command line: one module a command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ssmvid.cli import data, doctor, encode, models
from ssmvid.data import VideoError

COMMANDS = {"doctor": doctor, "models": models, "data": data, "encode": encode}

# What a user can mend. Anything else is a bug, and keeps its traceback.
EXPECTED = (VideoError, ValueError, OSError, RuntimeError, ImportError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code: 0 done, 1 done with findings, 2 refused, 130 interrupted.

    Raises:
        SystemExit: the arguments are wrong (2), or help was asked for (0).
    """
    parser = argparse.ArgumentParser(prog="ssmvid", description="State-space video backbones.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        module.add_arguments(commands.add_parser(name, help=summary, description=summary))
    args = parser.parse_args(argv)
    try:
        code = COMMANDS[args.command].run(args)
        sys.stdout.flush()  # here, where a reader that has gone is noticed
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at the end
        return 0
    except EXPECTED as error:
        print(f"ssmvid: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ssmvid: interrupted", file=sys.stderr)
        return 130
