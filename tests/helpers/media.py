"""Videos made by the tests themselves, with PyAV alone.

Every frame of a numbered video carries its own number as sixteen dark or bright cells (13 bits and a
3-bit check), which survive lossy coding and scaling: `read_number(picture)` gives it back.

    numbered_video(tmp_path / "a.mp4", 300, codec="libx264", options={"g": "30"})
    assert [read_number(p) for p in decoded] == [9, 28, …]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

os.environ.setdefault("SVT_LOG", "1")  # errors only
DARK, BRIGHT, CELLS = 48, 208, 4  # grey levels, cells per side
FAST = {
    "libx264": {"preset": "veryfast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
}
FAST |= {"libvpx": {"deadline": "realtime", "cpu-used": "8"}, "libsvtav1": {"preset": "8", "crf": "20"}}
FAST["libvpx-vp9"] = FAST["libvpx"]


def numbered_picture(number: int, width: int = 64, height: int = 64) -> np.ndarray:
    """uint8 (height, width, 3): `number` (below 8192) as a grid of 4×4 grey cells."""
    bits = number | (number % 7) << 13
    cells = [(bits >> i) & 1 for i in range(CELLS * CELLS)]
    rows = np.arange(height) * CELLS // height
    columns = np.arange(width) * CELLS // width
    grid = np.where(np.array(cells).reshape(CELLS, CELLS), BRIGHT, DARK).astype(np.uint8)
    return np.repeat(grid[rows][:, columns, None], 3, axis=2)


def noisy_picture(number: int, width: int = 64, height: int = 64) -> np.ndarray:
    """A numbered picture under noise, for files whose pictures must not be tiny."""
    noise = np.random.default_rng(number).integers(-40, 41, (height, width, 1))
    return (numbered_picture(number, width, height) + noise).clip(0, 255).astype(np.uint8)


def read_number(picture: np.ndarray) -> int:
    """The number that a picture (H, W, 3) carries, or -1 where none can be read."""
    height, width = picture.shape[:2]
    grey = picture.astype(float).mean(axis=2)
    centres_y = [int((i + 0.5) * height / CELLS) for i in range(CELLS)]
    centres_x = [int((i + 0.5) * width / CELLS) for i in range(CELLS)]
    levels = [grey[y - 2 : y + 3, x - 2 : x + 3].mean() for y in centres_y for x in centres_x]
    bits = sum(1 << i for i, level in enumerate(levels) if level > (DARK + BRIGHT) / 2)
    number, check = bits & 8191, bits >> 13
    return number if number % 7 == check else -1


def numbered_video(
    path: Path, count: int, *, size: tuple[int, int] = (64, 64), picture: Callable | None = None, **writing
) -> Path:
    """A video of `count` numbered frames; `writing` goes to `write_video`."""
    make = picture or numbered_picture
    return write_video(path, (make(i, *size) for i in range(count)), **writing)


def write_video(
    path: Path,
    pictures: Iterable[np.ndarray],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rate: Fraction | int = 30,
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_format: str | None = None,
    container_options: dict[str, str] | None = None,
    pixel_aspect: Fraction | None = None,
    rotation_degrees: int = 0,
    mirrored: bool = False,
    prepare: Callable[[av.VideoFrame], av.VideoFrame] | None = None,
    context: dict | None = None,
    tags: dict[str, str] | None = None,
) -> Path:
    """Encode pictures, uint8 (H, W, 3) RGB, or ready VideoFrames.

    `times` are presentation times in ticks of `time_base` (default: one frame after the other).
    `rotation_degrees` is clockwise, as players turn it, `mirrored` left-right after that.
    `prepare` changes a frame just before encoding; `context` sets attributes of the encoder.
    """
    time_base = time_base or 1 / Fraction(rate)
    with av.open(path, "w", format=container_format, options=container_options or {}) as container:
        stream = None
        container.metadata.update(tags or {})
        for i, picture in enumerate(pictures):
            frame = picture if isinstance(picture, av.VideoFrame) else av.VideoFrame.from_ndarray(picture)
            if stream is None:
                stream = container.add_stream(codec, rate=rate, options=FAST.get(codec, {}) | (options or {}))
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pixel_format
                stream.codec_context.time_base = time_base
                stream.codec_context.thread_count = 1
                if pixel_aspect:
                    stream.codec_context.sample_aspect_ratio = pixel_aspect
                if rotation_degrees or mirrored:
                    stream.set_display_rotation(-rotation_degrees, hflip=mirrored)
                for name, value in (context or {}).items():
                    setattr(stream.codec_context, name, value)
            if frame.format.name != pixel_format:
                frame = frame.reformat(format=pixel_format)
            frame.pts, frame.time_base = times[i] if times else i, time_base
            container.mux(stream.encode(prepare(frame) if prepare else frame))
        container.mux(stream.encode(None))
    return path


def joined_videos(path: Path, *parts: tuple[int, int], **writing) -> Path:
    """Recordings joined as `cat` does, each with a clock of its own; a part is (first number, count)."""
    contents = []
    for first, count in parts:
        numbered_video(path, count, picture=lambda i, *size, first=first: numbered_picture(first + i, *size), **writing)
        contents.append(path.read_bytes())
    path.write_bytes(b"".join(contents))
    return path


def continued_video(path: Path, *parts: Path) -> Path:
    """The packets of several videos in one file and on one clock."""
    with av.open(path, "w") as writing:
        stream, start = None, 0
        for part in parts:
            with av.open(part) as reading:
                video = reading.streams.video[0]
                stream = stream or writing.add_stream_from_template(video)
                packets = [packet for packet in reading.demux(video) if packet.size]
                offset = start - min(packet.dts for packet in packets)
                start = offset + max(packet.dts for packet in packets) + packets[-1].duration
                for packet in packets:
                    packet.stream, packet.pts, packet.dts = stream, packet.pts + offset, packet.dts + offset
                    writing.mux(packet)
    return path


def changed_copy(source: Path, target: Path, change: Callable) -> Path:
    """A copy of the packets that `change(number, packet)` gives, in decoding order."""
    with av.open(source) as reading, av.open(target, "w") as writing:
        video = reading.streams.video[0]
        stream = writing.add_stream_from_template(video)
        for number, packet in enumerate(packet for packet in reading.demux(video) if packet.size):
            packet.stream = stream
            if (packet := change(number, packet)) is not None:
                writing.mux(packet)
    return target
