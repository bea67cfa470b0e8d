"""Video: decoding, sampling, indexing, checking, data sets and loading. A leaf: it imports nothing else of ssmvid."""

from ssmvid.data.check import CheckReport, check, check_video
from ssmvid.data.clip import Batch, Clip, Key, collate
from ssmvid.data.decode import VideoInfo, frame_times, iter_frames, probe, read_frames
from ssmvid.data.errors import KINDS, VideoError
from ssmvid.data.index import VideoIndex, read_index
from ssmvid.data.keyframes import read_keyframes, sample_keyframes
from ssmvid.data.listfile import Finding, read_list
from ssmvid.data.loader import ClipDataset, make_loader, steps_per_epoch
from ssmvid.data.moving_digits import MovingDigits, write_videos
from ssmvid.data.needles import Needles
from ssmvid.data.reading import read_clip
from ssmvid.data.sampling import sample_budget, sample_fps, sample_stride, sample_uniform
from ssmvid.data.torchcodec_frames import why_no_torchcodec
from ssmvid.data.transform import eval_transform
from ssmvid.data.video_folder import VideoFolder

__all__ = [
    "KINDS",
    "Batch",
    "CheckReport",
    "Clip",
    "ClipDataset",
    "Finding",
    "Key",
    "MovingDigits",
    "Needles",
    "VideoError",
    "VideoFolder",
    "VideoIndex",
    "VideoInfo",
    "check",
    "check_video",
    "collate",
    "eval_transform",
    "frame_times",
    "iter_frames",
    "make_loader",
    "probe",
    "read_clip",
    "read_frames",
    "read_index",
    "read_keyframes",
    "read_list",
    "sample_budget",
    "sample_fps",
    "sample_keyframes",
    "sample_stride",
    "sample_uniform",
    "steps_per_epoch",
    "why_no_torchcodec",
    "write_videos",
]
