"""How long 16 exact frames of a video take: ours, every installed peer, and ffmpeg's limit, side by side.

    python scripts/bench_decode.py                     # four long-GOP sets, as deepfake data sets have
    python scripts/bench_decode.py --sets short,long   # one-second GOPs; ten minutes of two-second GOPs
    python scripts/bench_decode.py --videos a.mp4 b.mp4

Peers are used where installed: pip install torchcodec decord2 opencv-python-headless spdl-io; the ffmpeg program.
Every way uses one thread. The ways take turns; figures are medians of CPU time, which other work on
the machine disturbs least. The videos are made here (x264) and kept in --folder for the next run.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path

import av
import numpy as np

from shardify.video.decode import decode_video

FRAMES, SIZE = 16, 128
# name: (width, height, pixel format, frames, GOP, how often all of it is repeated)
SETS = {
    "720p": (1280, 720, "yuv420p", 300, 250, 1),
    "720p-444": (1280, 720, "yuv444p", 300, 250, 1),
    "1080p": (1920, 1080, "yuv420p", 300, 250, 1),
    "1080p-444": (1920, 1080, "yuv444p", 300, 250, 1),
    "short": (1280, 720, "yuv420p", 300, 30, 1),
    "long": (640, 360, "yuv420p", 300, 60, 60),
}
ENCODER_OPTIONS = {
    "libx264": {"preset": "fast", "crf": "23"},
    "libx265": {"preset": "fast", "crf": "23", "x265-params": "log-level=error"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0"},
}


def make_video(
    path: Path, width: int, height: int, pixel_format: str, count: int, gop: int, encoder: str = "libx264"
) -> None:
    """A moving, textured, noisy scene, coded at crf 23 like FaceForensics++ c23."""
    rng = np.random.default_rng(0)
    scene = sum(
        np.kron(
            rng.normal(0, 2.0**octave, (height * 2 >> octave, width * 2 >> octave, 3)),
            np.ones((1 << octave,) * 2 + (1,)),
        )[: height * 3 // 2, : width * 3 // 2]
        for octave in range(1, 6)
    )
    noise = rng.normal(0, 6, (8, height, width, 1))
    with av.open(path, "w") as container:
        stream = container.add_stream(encoder, rate=30, options=ENCODER_OPTIONS[encoder])
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.gop_size = gop
        for i in range(count):
            x, y = int(width / 4 * (1 + np.sin(i / 70))), int(height / 4 * (1 + np.cos(i / 90)))
            picture = 128 + scene[y : y + height, x : x + width] + noise[i % 8]
            top, left = (
                int(height / 3 + height / 9 * np.sin(i / 15)),
                int(width / 3 + width / 9 * np.cos(i / 11)),
            )
            picture[top : top + height // 3, left : left + height // 4] += (40, 10, -20)
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8))
            container.mux(stream.encode(frame.reformat(format=pixel_format)))
        container.mux(stream.encode(None))


def repeat_video(source: Path, target: Path, times: int) -> None:
    """The same packets again and again (closed groups of pictures), with later times."""
    with av.open(source) as reading, av.open(target, "w") as writing:
        video = reading.streams.video[0]
        stream = writing.add_stream_from_template(video)
        for turn in range(times):
            reading.seek(0)
            for packet in reading.demux(video):
                if packet.dts is not None:
                    shift = turn * video.duration
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    writing.mux(packet)


def spread(count: int) -> list[int]:
    return [(2 * k + 1) * count // (2 * FRAMES) for k in range(FRAMES)]


def ours(path: str) -> None:
    decode_video(path, frames=FRAMES, size=SIZE)


def pyav_plain(path: str) -> None:
    """Count by demuxing, decode on, convert and scale only the wanted frames."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        wanted = set(spread(len(packets)))
        container.seek(0)
        for i, frame in enumerate(container.decode(stream)):
            if i in wanted:
                frame.reformat(SIZE, SIZE, "rgb24", interpolation="BICUBIC").to_ndarray()


def torchcodec_resize(path: str) -> None:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    decoder = VideoDecoder(path, num_ffmpeg_threads=1, seek_mode="exact", transforms=[Resize((SIZE, SIZE))])
    decoder.get_frames_at(spread(decoder.metadata.num_frames))


def torchcodec_exact(path: str) -> None:
    import torch
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, num_ffmpeg_threads=1, seek_mode="exact")
    frames = decoder.get_frames_at(spread(decoder.metadata.num_frames)).data
    torch.nn.functional.interpolate(frames.float(), (SIZE, SIZE), mode="bicubic", antialias=True)


def decord_resized(path: str) -> None:
    import decord

    reader = decord.VideoReader(path, width=SIZE, height=SIZE, num_threads=1)
    reader.get_batch(spread(len(reader))).asnumpy()


def spdl_sampled(path: str) -> None:
    import spdl.io

    packets = spdl.io.demux_video(path)
    scaling = spdl.io.get_video_filter_desc(scale_width=SIZE, scale_height=SIZE, scale_algo="bicubic", pix_fmt="rgb24")
    frames = spdl.io.sample_decode_video(packets, spread(len(packets)), filter_desc=scaling)
    spdl.io.to_numpy(spdl.io.convert_frames(frames))


def opencv(path: str) -> None:
    import cv2

    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = set(spread(count))
    for i in range(max(wanted) + 1):
        capture.grab()
        if i in wanted:
            cv2.resize(capture.retrieve()[1], (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def ffmpeg_select(path: str) -> None:
    with av.open(path) as container:
        count = container.streams.video[0].frames
    picks = "+".join(f"eq(n\\,{i})" for i in spread(count))
    filters = f"select={picks},scale={SIZE}:{SIZE}:flags=bicubic"
    _ffmpeg("-i", path, "-vf", filters, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24")


def ffmpeg_limit(path: str) -> None:
    """Nothing but decoding, and only of pictures that others refer to."""
    _ffmpeg("-skip_frame", "noref", "-i", path, "-an", "-f", "null")


def libav_limit(path: str) -> None:
    """The same with the libav that ours uses, in this process."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count, stream.codec_context.skip_frame = 1, "NONREF"
        for packet in container.demux(stream):
            stream.codec_context.decode(packet)


def _ffmpeg(*arguments: str) -> None:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", *arguments, "-"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def contenders() -> dict[str, Callable[[str], None]]:
    ways: dict[str, Callable[[str], None]] = {"ours": ours, "PyAV, plain": pyav_plain}
    if importlib.util.find_spec("torchcodec"):
        ways |= {"torchcodec, then resize": torchcodec_exact, "torchcodec, resize inside": torchcodec_resize}
    for name in packages_distributions().get("decord", ()):  # decord2 is imported by the same name
        ways[f"{name}, resized"] = decord_resized
    if importlib.util.find_spec("spdl"):
        ways["SPDL, sampled"] = spdl_sampled
    if importlib.util.find_spec("cv2"):
        ways["OpenCV, grab/retrieve"] = opencv
    if shutil.which("ffmpeg"):
        ways |= {"ffmpeg select + scale": ffmpeg_select, "LIMIT ffmpeg -skip_frame noref": ffmpeg_limit}
    return ways | {"LIMIT the same in our libav": libav_limit}


def cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measure(path: str, ways: dict[str, Callable[[str], None]], rounds: int) -> dict[str, float]:
    """Median CPU milliseconds of each way; a way that cannot read the file is left out."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            if name not in times:
                continue
            begin = cpu_seconds()
            try:
                way(path)
            except Exception as error:
                print(f"  {name}: {type(error).__name__}: {str(error).splitlines()[0]}")
                del times[name]
                continue
            if turn:  # the first turn loads libraries and the page cache
                times[name].append(1000 * (cpu_seconds() - begin))
    return {name: statistics.median(values) for name, values in times.items()}


def report(name: str, medians: dict[str, float]) -> None:
    base = medians["ours"]
    print(f"\n{name}\n{'':32} {'CPU ms':>8} {'÷ ours':>8}")
    for way, value in medians.items():
        print(f"{way:32} {value:8.0f} {value / base:8.2f}")
    peers = [value for way, value in medians.items() if way != "ours" and not way.startswith("LIMIT")]
    limits = ", ".join(f"{base / value:.2f}" for way, value in medians.items() if way.startswith("LIMIT"))
    print(f"best peer ÷ ours: {min(peers) / base:.2f}   ours ÷ limits: {limits}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="720p,720p-444,1080p,1080p-444", help=f"of {', '.join(SETS)}")
    parser.add_argument("--videos", nargs="+", help="measure these files instead")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "shardify-bench")
    arguments = parser.parse_args()
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "threads;1"
    ways = contenders()
    if arguments.videos:
        for path in arguments.videos:
            report(path, measure(path, ways, arguments.rounds))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.sets.split(","):
        path = arguments.folder / f"{name}.mp4"
        if not path.exists():
            *what, times = SETS[name]
            part, whole = path.with_suffix(".part.mp4"), path.with_suffix(".whole.mp4")
            make_video(part, *what)
            repeat_video(part, whole, times)
            whole.rename(path)
            part.unlink()
        report(name, measure(str(path), ways, arguments.rounds))


if __name__ == "__main__":
    main()
