"""Good videos: every frame is the right one, at the right time, the right way up, however it is reached."""

import gc

import av
import numpy as np
import pytest
import torch

from ssmvid.data import frame_times, iter_frames, probe, read_frames

VFR = [0, 33, 67, 100, 133, 333, 533, 733, 933, 1133, 1166, 1200]

FILES = {
    "h264.mp4": {},
    "h264.mkv": {},
    "fragmented.mp4": {"options": {"movflags": "frag_keyframe+empty_moov"}},
    "open_gop.mp4": {"options": {"x264-params": "open-gop=1:bframes=3:keyint=8"}},
    "open_gop.mkv": {"options": {"x264-params": "open-gop=1:bframes=3:keyint=8"}},
    "intra_refresh.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=10"}},
    "broadcast.ts": {},
    "raw.h264": {},
    "divx.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "h264.avi": {},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "motion.mov": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "odd444.mp4": {"size": (67, 49), "pixels": "yuv444p"},
    "tenbit.mp4": {"pixels": "yuv420p10le"},
    "gray.mp4": {"pixels": "gray"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "vp8.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "8", "deadline": "good"}},
    "视频 é🎬 name.mp4": {},
    "-dash,comma;semi:colon%20&q?x=1#frag.mp4": {},
}


@pytest.mark.parametrize("name", FILES)
def test_frame_i_is_frame_i(tmp_path, write_video, numbers, name):
    path = write_video(tmp_path / name, 30, **FILES[name])
    wanted = [29, 0, 17, 17, 9, 10, 11, 3, 28, 20]  # out of order, repeated, on both sides of key frames
    frames = read_frames(path, wanted)
    assert frames.dtype == torch.uint8
    assert numbers(frames) == wanted
    streamed = list(iter_frames(path))
    assert numbers(torch.stack([frame for frame, _ in streamed])) == list(range(30))
    for index in (0, 10, 29):  # each alone, so that each is sought anew
        assert torch.equal(read_frames(path, [index])[0], streamed[index][0])
    times = frame_times(path)
    np.testing.assert_allclose(times, np.arange(30) / 30, atol=1.1e-3)
    np.testing.assert_allclose([time for _, time in streamed], times, atol=1e-9)


def frames_in_memory():
    return sum(type(thing) is av.VideoFrame for thing in gc.get_objects())


def test_a_decoded_frame_is_let_go_at_once(good_mp4):
    """Not when the garbage collector comes by: a hundred frames of a large video are a gigabyte."""
    gc.collect()
    gc.disable()
    try:
        alive = [frames_in_memory() for index, _ in enumerate(iter_frames(good_mp4)) if index % 10 == 9]
        assert max(alive) <= 4  # the first, the one shown and the one after it, the decoder's own
        read_frames(good_mp4, range(30))
        assert frames_in_memory() <= alive[-1] + 2
    finally:
        gc.enable()


def test_variable_rate_and_start_offset_are_in_the_times(tmp_path, write_video, numbers):
    path = write_video(tmp_path / "vfr.mkv", 12, times_ms=[5000 + t for t in VFR])
    np.testing.assert_allclose(frame_times(path), np.array(VFR) / 1000, atol=1e-9)
    assert numbers(read_frames(path, range(12))) == list(range(12))


def test_iter_frames_by_rate_gives_what_a_viewer_sees(tmp_path, write_video, numbers):
    path = write_video(tmp_path / "vfr.mkv", 12, times_ms=VFR)
    shown = list(iter_frames(path, fps=10))  # at 0.0, 0.1 ... 1.2 s
    assert numbers(torch.stack([frame for frame, _ in shown])) == [0, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 11]
    assert [round(time * 1000) for _, time in shown][:4] == [0, 100, 133, 133]
    every = list(iter_frames(path, stride=5))
    assert numbers(torch.stack([frame for frame, _ in every])) == [0, 5, 10]


def test_iter_frames_refuses_rate_and_stride_together(good_mp4):
    for wrong in ({"fps": 2.0, "stride": 2}, {"fps": 0.0}, {"stride": 0}):
        with pytest.raises(ValueError, match="fps > 0 or stride >= 1"):
            next(iter_frames(good_mp4, **wrong))


def test_an_edit_list_hides_what_lies_before_it(tmp_path, write_video, numbers):
    source = write_video(tmp_path / "whole.mp4", 30, gop=30)
    cut = tmp_path / "cut.mp4"
    with (
        av.open(str(source)) as whole,
        av.open(str(cut), "w", container_options={"avoid_negative_ts": "disabled"}) as out,
    ):
        stream = out.add_stream_from_template(whole.streams.video[0])
        start = 12 * int(1 / (whole.streams.video[0].time_base * 30))
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.stream, packet.pts, packet.dts = stream, packet.pts - start, packet.dts - start
                out.mux(packet)
    assert len(frame_times(cut)) == 18
    assert numbers(read_frames(cut, range(18))) == list(range(12, 30))
    assert numbers(torch.stack([frame for frame, _ in iter_frames(cut)])) == list(range(12, 30))


TURNS = {  # (a, b, c, d) of the display matrix: what a viewer sees of a stored picture (H, W, 3)
    (1, 0, 0, 1): lambda p: p,
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),
    (-1, 0, 0, -1): lambda p: np.rot90(p, 2),
    (0, -1, 1, 0): lambda p: np.rot90(p, 1),
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (0, 1, 1, 0): lambda p: p.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda p: np.rot90(p, 2).transpose(1, 0, 2),
}


@pytest.mark.parametrize("matrix", TURNS)
def test_frames_are_turned_and_mirrored_for_display(tmp_path, good_mp4, matrix):
    data = bytearray(good_mp4.read_bytes())
    at = data.index(b"tkhd") + 44  # version 0: the matrix a b u c d v x y w
    fixed = [value * 2**16 for value in matrix]
    data[at : at + 36] = np.array([*fixed[:2], 0, *fixed[2:], 0, 0, 0, 2**30], ">i4").tobytes()
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(data)
    stored = read_frames(good_mp4, [7])[0].permute(1, 2, 0).numpy()
    expected = np.ascontiguousarray(TURNS[matrix](stored))
    shown = read_frames(turned, [7])[0].permute(1, 2, 0)
    assert np.array_equal(shown.numpy(), expected)
    info = probe(turned)
    assert (info.height, info.width) == expected.shape[:2]
    assert torch.equal(next(iter_frames(turned))[0], read_frames(turned, [0])[0])


def test_quarter_turn_counter_clockwise_is_reported(tmp_path, good_mp4):
    data = bytearray(good_mp4.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = np.array([0, -(2**16), 0, 2**16, 0, 0, 0, 0, 2**30], ">i4").tobytes()
    (tmp_path / "phone.mp4").write_bytes(data)
    assert probe(tmp_path / "phone.mp4").rotation == 90


def test_probe_reads_the_header(good_mp4):
    info = probe(good_mp4)
    assert (info.frames, info.fps, info.width, info.height, info.rotation, info.codec) == (30, 30.0, 64, 48, 0, "h264")
    assert info.duration_s == pytest.approx(1.0)


def test_one_frame_is_a_video(tmp_path, write_video, numbers):
    path = write_video(tmp_path / "one.mp4", 1)
    assert frame_times(path).tolist() == [0.0]
    assert numbers(read_frames(path, [0, 0, 0])) == [0, 0, 0]
    assert len(list(iter_frames(path, fps=5))) == 1


def test_the_first_of_several_video_streams_wins_over_cover_art_and_audio(tmp_path, good_mp4, numbers):
    path = tmp_path / "with_audio.mkv"
    with av.open(str(good_mp4)) as source, av.open(str(path), "w") as target:
        sound = target.add_stream("pcm_s16le", rate=8000, layout="mono")
        stream = target.add_stream_from_template(source.streams.video[0])
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        silence.rate, silence.pts = 8000, 0
        target.mux(sound.encode(silence))
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert numbers(read_frames(path, [0, 15, 29])) == [0, 15, 29]


def test_a_changed_file_is_read_anew(tmp_path, write_video):
    path = write_video(tmp_path / "a.mp4", 10)
    assert len(frame_times(path)) == 10
    write_video(path, 20)
    assert len(frame_times(path)) == 20


def test_indices_outside_the_video_are_an_error(good_mp4):
    for wrong in ([30], [-1]):
        with pytest.raises(IndexError, match=r"must be in 0\.\.29"):
            read_frames(good_mp4, wrong)
    with pytest.raises(ValueError, match="at least one frame"):
        read_frames(good_mp4, [])


def test_an_unknown_decoder_is_an_error(good_mp4):
    with pytest.raises(ValueError, match=r"must be one of .*, got 'decord'"):
        read_frames(good_mp4, [0], decoder="decord")


def test_torchcodec_is_used_or_says_why_not(good_mp4):
    from ssmvid.data.torchcodec_frames import why_no_torchcodec

    exact = read_frames(good_mp4, [3, 20, 9])
    assert torch.equal(read_frames(good_mp4, [3, 20, 9], decoder="auto"), exact)
    if why_no_torchcodec() is None:
        assert torch.equal(read_frames(good_mp4, [3, 20, 9], decoder="torchcodec"), exact)
    else:
        with pytest.raises(ImportError, match="use decoder=pyav"):
            read_frames(good_mp4, [0], decoder="torchcodec")
