"""Check a folder of videos, or a list of them, before a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from ssmvid.data import check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    action = parser.add_subparsers(dest="action", required=True).add_parser(
        "check", help="decode every video; each broken line as file:line and reason"
    )
    action.add_argument(
        "path", type=Path, help="a video, a list of `path label` lines, or a folder of class/video files"
    )
    action.add_argument("--num-classes", type=int, help="labels at or above it are findings too")


def run(args: argparse.Namespace) -> int:
    """Exit code 1 where something is broken.

    Raises:
        FileNotFoundError: there is no such path.
        ValueError: there is no video to check.
    """
    with tqdm(unit="video", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        report = check(args.path, num_classes=args.num_classes, progress=progress)
    for finding in report.findings:
        print(finding)
    if report.ok and not report.n_ok:
        raise ValueError(f"there is no video under {str(args.path)!r}: give a video, a list or a folder of videos")
    print(f"{args.path}: {report.n_ok} videos can be used, {report.n_failed} cannot")
    return 0 if report.ok else 1
