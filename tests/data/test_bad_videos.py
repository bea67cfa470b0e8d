"""Bad videos: each is one VideoError with the file's name, its kind and a hint; nothing but the file is ever opened."""

import os
import pickle
import socket
import threading

import av
import numpy as np
import pytest

from ssmvid.data import KINDS, VideoError, check_video, frame_times, iter_frames, probe, read_frames


def all_errors(path, **limits):
    """The errors of the ways to read a video to its end; fails where one of them does not refuse."""
    errors = []
    for read in (
        lambda: check_video(path, **limits),
        lambda: list(iter_frames(path, **limits)),
        lambda: list(iter_frames(path, threads=2, **limits)),
        lambda: read_frames(path, range(len(frame_times(path, **limits))), **limits),
    ):
        with pytest.raises(VideoError) as caught:
            read()
        errors.append(caught.value)
    return errors


def refused(path, kind, **limits):
    for error in all_errors(path, **limits):
        assert (error.path, error.kind) == (os.fspath(path), kind), error
        assert error.hint
        assert "\n" not in str(error)


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(VideoError("a b.mp4", "corrupt", "half of it is zeros")))
    assert isinstance(error, VideoError)
    assert (error.path, error.kind, error.hint) == ("a b.mp4", "corrupt", "half of it is zeros")
    assert str(error) == "a b.mp4: corrupt: half of it is zeros"


def test_missing(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "no.mp4", tmp_path / "folder.mp4", tmp_path / "pipe.mp4", "/dev/zero", "a\0b.mp4", ""):
        refused(path, "missing")


CONTENTS = {
    "not_media": {
        "empty": b"",
        "random": np.random.default_rng(0).bytes(50_000),
        "zeros": bytes(100_000),
        "page": b"<html><body>404 Not Found</body></html>" * 20,
        "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(1000),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(1000),
        "text": b"videos/a.mp4 3\n" * 100,
    },
    "refused": {
        "hls": b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1.0,\nother.ts\n#EXT-X-ENDLIST\n",
        "hls_bom": b"\xef\xbb\xbf\n #EXTM3U\n#EXTINF:1.0,\nother.ts\n",
        "concat": b"ffconcat version 1.0\nfile 'other.mp4'\n",
        "dash": b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    },
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in CONTENTS for name in CONTENTS[kind]])
def test_contents_that_are_no_video(tmp_path, kind, name):
    path = tmp_path / f"{name}.mp4"
    path.write_bytes(CONTENTS[kind][name])
    refused(path, kind)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.97])
@pytest.mark.parametrize("name", ["front.mp4", "plain.mp4", "a.mkv", "a.webm", "a.avi", "frag.mp4", "a.gif"])
def test_a_file_cut_short_is_truncated(tmp_path, write_video, good_mp4, name, share):
    codec = {".webm": "libvpx-vp9", ".avi": "mpeg4", ".gif": "gif"}.get(name[-5:].lstrip("a"), "libx264")
    pixels = "rgb8" if codec == "gif" else "yuv420p"
    options = {"movflags": "frag_keyframe+empty_moov"} if name == "frag.mp4" else {}
    whole = (
        good_mp4 if name == "front.mp4" else write_video(tmp_path / name, codec=codec, pixels=pixels, options=options)
    )
    data = whole.read_bytes()
    cut = tmp_path / f"cut_{name}"
    cut.write_bytes(data[: int(len(data) * share)])
    refused(cut, "truncated")


def media_data(path):
    data = bytearray(path.read_bytes())
    return data, data.index(b"mdat") + 4


@pytest.mark.parametrize(("begin", "end"), [(0.3, 0.5), (0.6, 1.0)])
def test_zeroed_stretches_are_corrupt(tmp_path, good_mp4, begin, end):
    data, start = media_data(good_mp4)
    size = len(data) - start
    begin, end = start + int(begin * size), start + int(end * size)
    data[begin:end] = bytes(end - begin)
    path = tmp_path / "zeroed.mp4"
    path.write_bytes(data)
    refused(path, "corrupt")


def test_a_clip_before_the_damage_is_right_and_never_wrong(tmp_path, good_mp4, numbers):
    data, start = media_data(good_mp4)
    zeroed = start + int(0.8 * (len(data) - start))
    data[zeroed:] = bytes(len(data) - zeroed)
    path = tmp_path / "zeroed.mp4"
    path.write_bytes(data)
    assert numbers(read_frames(path, range(8))) == list(range(8))
    with pytest.raises(VideoError, match="corrupt"):
        read_frames(path, [0, 29])


def test_flipped_bits_are_corrupt(tmp_path, good_mp4):
    data, start = media_data(good_mp4)
    rng = np.random.default_rng(0)
    for at in rng.integers(start + 300, len(data), 40):
        data[at] ^= 1 << rng.integers(8)
    path = tmp_path / "flipped.mp4"
    path.write_bytes(data)
    refused(path, "corrupt")


def test_a_count_of_frames_that_are_not_there(tmp_path, good_mp4):
    data = good_mp4.read_bytes()
    cases = {"durations": (b"stts", 8), "offset": (b"stco", 8)}  # both read back as fewer frames than declared
    for name, (box, offset) in cases.items():
        at = data.index(box) + 4 + offset
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(data[:at] + (2**31 - 9).to_bytes(4, "big") + data[at + 4 :])
        refused(path, "truncated")
    at = data.index(b"stsz") + 12
    path = tmp_path / "sizes.mp4"
    path.write_bytes(data[:at] + (2**31 - 9).to_bytes(4, "big") + data[at + 4 :])
    refused(path, "corrupt")


def test_bytes_after_the_end_do_no_harm(tmp_path, good_mp4, numbers):
    for name, junk in {"padded": bytes(999), "junk": np.random.default_rng(1).bytes(999)}.items():
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(good_mp4.read_bytes() + junk)
        assert check_video(path) == 30


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for start in range(0, 16000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    refused(path, "no_video")


def test_a_header_without_frames_is_empty(tmp_path):
    path = tmp_path / "nothing.mp4"
    boxes = [
        b"ftypisom\0\0\2\0isomiso2",
        b"moov" + (108).to_bytes(4, "big") + b"mvhd" + bytes(12) + (1000).to_bytes(4, "big"),
    ]
    boxes[1] += bytes(108 - 8 - 16)
    path.write_bytes(b"".join((len(box) + 4).to_bytes(4, "big") + box for box in boxes))
    refused(path, "empty")


def test_frames_too_large_are_refused_from_the_header(tmp_path, good_mp4):
    refused(good_mp4, "too_large", max_pixels=64 * 48 - 1)
    assert probe(good_mp4, max_pixels=64 * 48).width == 64
    data = bytearray(good_mp4.read_bytes())
    at = data.index(b"avc1", data.index(b"stsd")) + 28
    data[at : at + 4] = b"\0\x10\0\x10"  # the container says 16 x 16, the stream is 64 x 48
    path = tmp_path / "liar.mp4"
    path.write_bytes(data)
    refused(path, "too_large", max_pixels=1024)


def test_a_clip_of_too_many_bytes_is_refused_before_it_is_decoded(good_mp4, monkeypatch):
    monkeypatch.setattr("ssmvid.data.decode.MAX_BYTES", 10 * 3 * 64 * 48)
    assert len(read_frames(good_mp4, [*range(10)] * 2)) == 20
    with pytest.raises(VideoError, match="too_large: 11 frames of 64 x 48"):
        read_frames(good_mp4, range(11))


def test_a_change_of_size_is_refused(tmp_path, write_video):
    small = write_video(tmp_path / "small.ts", size=(64, 48)).read_bytes()
    large = write_video(tmp_path / "large.ts", size=(128, 96)).read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(small + large)
    refused(path, "resolution_change")


def test_an_unknown_codec_is_unsupported(tmp_path, good_mp4):
    path = tmp_path / "unknown.mp4"
    path.write_bytes(good_mp4.read_bytes().replace(b"avc1", b"zzz1").replace(b"avcC", b"zzzC"))
    refused(path, "unsupported")


@pytest.fixture
def server():
    """A loopback port that counts who knocks."""
    knocks = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            knocks.append(connection.recv(100))
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], knocks
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(timeout=5)


def test_nothing_is_ever_fetched(tmp_path, server, good_mp4):
    port, knocks = server
    url = f"http://127.0.0.1:{port}/x.ts"
    lists = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{url}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{url}'\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "dash": f"<MPD><Period><AdaptationSet><Representation><BaseURL>{url}</BaseURL></Representation>"
        "</AdaptationSet></Period></MPD>",
        "rtsp": f"RTSPtext\nrtsp://127.0.0.1:{port}/\n",
        "ram": url,
    }
    for name, text in lists.items():
        for suffix in (".mp4", ".m3u8", ".ts", ".ffconcat", ".sdp"):
            path = tmp_path / (name + suffix)
            path.write_text(text)
            for error in all_errors(path):
                assert error.kind in ("refused", "not_media")
    local = f"file '{good_mp4}'\n"
    (tmp_path / "local.mp4").write_text("ffconcat version 1.0\n" + local)
    refused(tmp_path / "local.mp4", "refused")
    for path in (
        *(url, f"HTTP://127.0.0.1:{port}/x", f"concat:{url}|{url}", f"hls+{url}", f"async:{url}", f"cache:{url}"),
        *(f"tcp://127.0.0.1:{port}", f"rtsp://127.0.0.1:{port}/", f"file:{good_mp4}", f"concat:{good_mp4}"),
        *(f"crypto:{good_mp4}", f"subfile,,start,0,end,9,,:{good_mp4}", "pipe:0", "data:video/mp4;base64,AAAA"),
    ):
        refused(path, "refused")
    assert knocks == []


def frames_or_kind(path):
    try:
        return check_video(path)
    except VideoError as error:
        return error.kind


def test_an_mp4_cannot_name_another_file(tmp_path, good_mp4, server):
    port, knocks = server
    data = good_mp4.read_bytes()
    at = data.index(b"url ")
    for target in (f"http://127.0.0.1:{port}/x.mp4", str(good_mp4)):
        text = target.encode() + b"\0"
        box = (12 + len(text)).to_bytes(4, "big") + b"url " + bytes(4) + text  # flags 0: the data lie elsewhere
        path = tmp_path / "reference.mp4"
        changed = bytearray(data[: at - 4] + box + data[at + 8 :])
        for parent in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
            place = changed.index(parent) - 4
            size = int.from_bytes(changed[place : place + 4], "big") + len(box) - 12
            changed[place : place + 4] = size.to_bytes(4, "big")
        path.write_bytes(changed)
        # 30 frames: read from this file, not from the one it names
        assert frames_or_kind(path) in (30, "corrupt", "truncated", "empty")
    assert knocks == []


def test_every_kind_is_documented():
    assert set(KINDS) == {
        *("missing", "refused", "not_media", "no_video", "unsupported"),
        *("empty", "too_large", "truncated", "corrupt", "resolution_change"),
    }
