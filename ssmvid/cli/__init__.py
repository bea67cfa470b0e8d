"""`ssmvid` on the command line: one module a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ssmvid.cli import data, doctor, encode, models

COMMANDS = {"doctor": doctor, "models": models, "data": data, "encode": encode}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code: 0 done, 1 done with findings, 2 refused."""
    parser = argparse.ArgumentParser(prog="ssmvid", description="State-space video backbones.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        module.add_arguments(commands.add_parser(name, help=summary, description=summary))
    args = parser.parse_args(argv)
    try:
        return COMMANDS[args.command].run(args)
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        print(f"ssmvid {args.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
