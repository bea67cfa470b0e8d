"""What all commands share: exit codes, and errors as one message."""

import os
import subprocess
import sys

import pytest

from ssmvid.cli import COMMANDS, main
from ssmvid.data import VideoError


def entry(*argv, **options):
    code = "import sys; from ssmvid.cli import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-W", "error", "-c", code, *argv], text=True, check=False, **options)


def test_the_installed_command_runs():
    done = entry("models", "*tiny", capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "videomamba_tiny" in done.stdout


def test_help_names_every_command(ssmvid):
    done = ssmvid("--help")
    assert done.code == 0
    for name in COMMANDS:
        assert name in done.out
        assert ssmvid(name, "--help").code == 0


@pytest.mark.parametrize("argv", [[], ["no"], ["models", "--no"], ["data"], ["encode", "a.mp4"]])
def test_wrong_arguments_end_with_2(ssmvid, argv):
    done = ssmvid(*argv)
    assert done.code == 2
    assert "usage: ssmvid" in done.err


def raising(error):
    def run(args):
        print("begun")
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (VideoError("a.mp4", "corrupt", "half of it is zeros"), "ssmvid: a.mp4: corrupt: half of it is zeros\n"),
        (ValueError("no"), "ssmvid: no\n"),
        (FileNotFoundError("there is no x"), "ssmvid: there is no x\n"),
        (OSError(28, "No space left on device"), "ssmvid: [Errno 28] No space left on device\n"),
        (RuntimeError("out of memory"), "ssmvid: out of memory\n"),
        (ImportError("no torchcodec"), "ssmvid: no torchcodec\n"),
    ],
)
def test_what_a_user_can_mend_is_one_message_and_2(ssmvid, monkeypatch, error, message):
    monkeypatch.setattr(COMMANDS["models"], "run", raising(error))
    assert ssmvid("models") == (2, "begun\n", message)


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(COMMANDS["models"], "run", raising(KeyError("bug")))
    with pytest.raises(KeyError, match="bug"):
        main(["models"])


def test_ctrl_c_is_130(ssmvid, monkeypatch):
    monkeypatch.setattr(COMMANDS["models"], "run", raising(KeyboardInterrupt()))
    assert ssmvid("models") == (130, "begun\n", "ssmvid: interrupted\n")


def test_a_reader_that_has_gone_is_no_error():
    """`ssmvid models | head -n 0`"""
    reader, writer = os.pipe()
    os.close(reader)
    done = entry("models", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
