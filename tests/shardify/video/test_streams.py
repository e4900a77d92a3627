"""Which stream of a file is decoded, how the file is read, and what becomes of failures on the way."""

import errno
import io
import os

import av
import pytest
from media import noisy_picture, numbered_picture, numbered_video

from shardify.errors import VideoError
from shardify.video.container import MAX_STREAMS, READ_BYTES, VideoFile, open_video, readable_failures
from shardify.video.decode import decode_clips, decode_video
from shardify.video.extract import Request


def streams_video(path, sizes, *, codec="ffv1", default=(), without_data=(), counts=(), picture=numbered_picture):
    """A file with a stream for each of `sizes` (width, height), of five frames or as many as `counts` says."""
    counts = counts or [5] * len(sizes)
    with av.open(path, "w") as container:
        streams = []
        for number, size in enumerate(sizes):
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.disposition = av.stream.Disposition.default if number in default else av.stream.Disposition(0)
            streams.append((number, stream, size))
        for i in range(max(counts)):
            for number, stream, size in streams:
                if i >= counts[number]:
                    continue
                frame = av.VideoFrame.from_ndarray(picture(i, *size)).reformat(format="yuv420p")
                frame.pts = i
                packets = stream.encode(frame)
                if number not in without_data:
                    container.mux(packets)
    return path


@pytest.mark.parametrize(
    ("name", "options", "chosen"),
    [
        ("a.mkv", {}, 1),  # the largest, of equals the first
        ("a.mkv", {"default": (0,)}, 0),
        ("a.mov", {"codec": "mpeg4", "default": (1, 2), "counts": (5, 1, 5, 5)}, 2),
        ("a.mov", {"codec": "mpeg4", "default": (1, 2), "counts": (3, 1, 3, 3)}, 2),  # animated AVIF
        ("a.mov", {"codec": "mpeg4", "default": (1,), "counts": (20, 4, 20, 20)}, 2),  # a motion photo
        ("a.mkv", {"default": (1,), "counts": (20, 4, 20, 2)}, 2),
        ("a.mkv", {"default": (0,), "counts": (5, 20, 20, 20)}, 0),  # a quarter of the frames: it may be the film
        ("a.wmv", {"codec": "wmv2", "without_data": (1,)}, 2),
        ("a.wmv", {"codec": "wmv2", "without_data": (1, 2)}, 0),
    ],
)
def test_which_stream_is_chosen(tmp_path, name, options, chosen):
    sizes = [(32, 32), (96, 64), (64, 96), (32, 16)]
    path = streams_video(tmp_path / name, sizes, **options)
    info = decode_video(path).info
    assert (info.width, info.height) == sizes[chosen]
    with open_video(path) as video, video.demuxer() as stream:
        discarded = [other.index for other in stream.container.streams if other.discard == av.stream.Discard.all]
    assert discarded == [number for number in range(4) if number != chosen]


def test_counting_packets_does_not_move_the_reader(tmp_path):
    """A transport stream longer than one read, of which the demuxer goes on from where the file stands."""
    sizes, counts = [(64, 64), (320, 240)], (71, 71)
    path = streams_video(tmp_path / "a.ts", sizes, codec="mpeg2video", counts=counts, picture=noisy_picture)
    assert path.stat().st_size > READ_BYTES
    info = decode_video(path).info
    assert (info.width, info.num_frames) == (320, 70)  # the encoder keeps the last


def test_too_many_streams(tmp_path):
    path = streams_video(tmp_path / "a.mkv", [(16, 16)] * (MAX_STREAMS + 1))
    with open_video(path) as video, video.demuxer() as stream:
        assert len(stream.container.streams) == MAX_STREAMS


def test_one_thread_for_each_video(tmp_path):
    path = numbered_video(tmp_path / "a.mp4", 5)
    with open_video(path) as video, video.demuxer() as stream:
        assert stream.codec_context.thread_count == 1


class WatchedFile(io.FileIO):
    """Counts its reads, and fails from the byte `broken_at` on."""

    reads, broken_at = 0, None

    def read(self, size=-1):
        self.reads += 1
        if self.broken_at is not None and self.tell() >= self.broken_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(size)


def test_few_reads(tmp_path):
    path = numbered_video(tmp_path / "a.mkv", 200, size=(96, 96), picture=noisy_picture, options={"qp": "4"})
    size = path.stat().st_size
    assert size > 1e6
    with WatchedFile(path) as file:
        decode_clips(VideoFile(file, size, []), Request())
        assert file.reads < 30


@pytest.mark.parametrize("broken_at", [0, 300_000])
def test_a_disk_that_fails(tmp_path, broken_at):
    path = numbered_video(tmp_path / "a.mkv", 200, size=(96, 96), picture=noisy_picture, options={"qp": "4"})
    with WatchedFile(path) as file, pytest.raises(VideoError, match="cannot be read: Input/output error"):
        file.broken_at = broken_at
        with readable_failures():
            decode_clips(VideoFile(file, path.stat().st_size, []), Request())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (av.error.InvalidDataError(1, "x"), "not a video, or damaged beyond reading"),
        (av.error.DecoderNotFoundError(1, "x"), "no decoder for its video codec"),
        (av.error.PatchWelcomeError(1, "x"), "uses a feature that the decoder does not support"),
        (av.error.EOFError(1, "x"), "ends before any video data"),
        (av.error.ArgumentError(22, "strange\nwords"), "cannot be decoded: strange words"),
        (MemoryError(), "needs more memory than a video may use"),
        (OSError(errno.EIO, "broken disk"), "cannot be read: broken disk"),
        (ValueError("odd"), "cannot be decoded: odd"),
        (IndexError("odd"), "cannot be decoded: odd"),
        (RuntimeError("odd"), "cannot be decoded: odd"),
        (VideoError("as it is"), "as it is"),
    ],
)
def test_every_failure_is_one_readable_line(error, reason):
    with pytest.raises(VideoError) as caught, readable_failures():
        raise error
    assert str(caught.value) == reason
