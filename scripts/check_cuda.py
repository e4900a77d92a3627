"""Do the GPU's frames agree with the CPU's, and is it faster? Exit code 1 where they differ by more than 2 levels.

    python scripts/check_cuda.py                 # videos made here: H.264 4:2:0 and 4:4:4, HEVC 10 bit, VP9
    python scripts/check_cuda.py a.mp4 b.mp4     # your own

Each video is decoded to 16 frames of 128 px by both, in turns; times are medians of wall-clock seconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_decode import make_video

from shardify.errors import ShardifyError
from shardify.video.decode import DecodedVideo, decode_video
from shardify.video.nvdec import check_cuda

LARGEST_DIFFERENCE = 2  # levels of 255
MADE = {  # name: (encoder, pixel format)
    "h264": ("libx264", "yuv420p"),
    "h264-444": ("libx264", "yuv444p"),  # FaceForensics++; few GPUs decode it
    "hevc-10bit": ("libx265", "yuv420p10le"),
    "vp9": ("libvpx-vp9", "yuv420p"),
}


def timed(path: Path, decoder: str) -> tuple[float, DecodedVideo]:
    start = time.perf_counter()
    video = decode_video(path, decoder=decoder)
    return time.perf_counter() - start, video


def compare(path: Path, rounds: int) -> bool:
    """Print one line on a video; False where the frames are not the same within the limit."""
    seconds = {"cpu": [], "cuda": []}
    for _ in range(rounds):
        videos = {}
        for decoder, kept in seconds.items():
            passed, videos[decoder] = timed(path, decoder)
            kept.append(passed)
    cpu, cuda = videos["cpu"], videos["cuda"]
    if cuda.decoder == "cpu":
        print(f"{path.name}: the GPU cannot decode it, the CPU did ({cpu.info.codec} {cpu.info.pixel_format})")
        return True
    pairs = [(a.frames.astype(int), b.frames) for a, b in zip(cpu.clips, cuda.clips, strict=True)]
    largest = max(int(np.abs(a - b).max()) for a, b in pairs)
    same = largest <= LARGEST_DIFFERENCE and all(
        a.pts_seconds == b.pts_seconds for a, b in zip(cpu.clips, cuda.clips, strict=True)
    )
    ratio = statistics.median(seconds["cpu"]) / statistics.median(seconds["cuda"])
    print(f"{path.name}: largest difference {largest} levels, {ratio:.2f} times as fast: {'ok' if same else 'DIFFERS'}")
    return same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    try:
        check_cuda()
        with tempfile.TemporaryDirectory() as scratch:
            videos = options.videos
            for name, (encoder, pixel_format) in {} if videos else MADE.items():
                videos = [*videos, Path(scratch, f"{name}.mp4")]
                make_video(videos[-1], 1280, 720, pixel_format, 300, 250, encoder)
            agree = [compare(path, options.rounds) for path in videos]
    except ShardifyError as error:
        sys.exit(f"error: {error}")
    sys.exit(0 if all(agree) else 1)


if __name__ == "__main__":
    main()
