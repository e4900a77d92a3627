"""What sound costs a build: CPU per second of sound, and the memory that an hour of it takes.

    python scripts/bench_audio.py [--minutes 5] [--ultrasound 60]

The sound of a made video is decoded, placed and transformed as in a build with `--audio auto`: 48 kHz stereo AAC in
mp4, in clips of two seconds. With --ultrasound also so many minutes at 250 kHz, mono PCM in mov, as rodents are
recorded, as one clip (an hour takes 1.8 GB of disk). Both in a process that is held to the memory of a build's worker.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import click
import numpy as np

from shardify.audio.clip_sound import clip_sounds
from shardify.executors.base import MEMORY_BYTES, Limits
from shardify.executors.local import LocalExecutor
from shardify.format.members.mel import Mel
from shardify.text import human_bytes
from shardify.video.container import open_video


def make_video(path: Path, seconds: int, codec: str, rate: int, layout: str) -> Path:
    """A still picture with noise."""
    channels = av.AudioLayout(layout).nb_channels
    noise = np.random.default_rng(0).normal(0, 0.1, (channels, 10 * rate)).astype(np.float32)
    with av.open(path, "w") as container:
        video = container.add_stream("mpeg4", rate=1)
        video.width = video.height = 32
        track = container.add_stream(codec, rate=rate, layout=layout)
        track.codec_context.open()
        convert = av.AudioResampler(track.codec_context.format.name, layout, rate)
        block = track.codec_context.frame_size or rate  # samples of a packet
        picture = np.zeros((32, 32, 3), np.uint8)
        for number in range(seconds):
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = number, Fraction(1)
            container.mux(video.encode(frame))
            for start in range(number * rate, (number + 1) * rate, block):
                at = start % (noise.shape[1] - block)
                sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(noise[:, at : at + block]), "fltp", layout)
                sound.sample_rate = rate
                for part in convert.resample(sound):
                    part.pts = None
                    container.mux(track.encode(part))
        container.mux(track.encode(None))
        container.mux(video.encode(None))
    return path


def hear(job: tuple[Path, Mel, int, int]) -> tuple[float, int]:
    """CPU seconds that the sound of a video takes, and the most memory of this process, bytes."""
    path, member, seconds, clips = job
    parts = [(number * seconds / clips, seconds / clips) for number in range(clips)]
    start = time.process_time()
    with open_video(path) as file:
        sounds = clip_sounds(file, parts, member)
    spent = time.process_time() - start
    assert all(sound.coverage > 0.99 and not sound.errors for sound in sounds)
    return spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def in_worker(jobs: list[tuple]) -> Iterator[tuple[float, int]]:
    """As `hear`, each in a fresh process with the memory of a build's worker."""
    from bench_audio import hear as work  # workers do not import the main module

    for job in jobs:
        (outcome,) = LocalExecutor(1, Limits(3600)).map(work, [job])
        if isinstance(outcome, str):
            raise SystemExit(f"{job[0]}: {outcome}")
        yield outcome


@click.command()
@click.option("--minutes", default=5, show_default=True, help="Length of the AAC sound.")
@click.option("--ultrasound", default=0, help="Minutes of sound at 250 kHz.")
def main(minutes: int, ultrasound: int) -> None:
    common = {"columns": 256, "window": 25.0, "hop": 10.0}
    speech = Mel(rate=16_000, mels=128, low=20.0, high=8000.0, **common)
    calls = Mel(rate=250_000, mels=128, low=1000.0, high=125_000.0, **common)
    with tempfile.TemporaryDirectory() as folder:
        seconds = 60 * minutes
        path = make_video(Path(folder, "a.mp4"), seconds, "aac", 48_000, "stereo")
        runs = list(in_worker([(path, speech, seconds, max(1, seconds // 2))] * 3))
        per_second = sorted(spent for spent, _ in runs)[1] / seconds * 1000
        click.echo(f"AAC 48 kHz stereo: {per_second:.1f} ms CPU per second, {human_bytes(runs[0][1])} resident")
        if ultrasound:
            path = make_video(Path(folder, "b.mov"), 60 * ultrasound, "pcm_s16le", 250_000, "mono")
            ((spent, memory),) = in_worker([(path, calls, 60 * ultrasound, 1)])
            click.echo(
                f"{ultrasound} minutes at 250 kHz: {spent:.0f} s CPU, {human_bytes(memory)} resident; a worker may "
                f"have {human_bytes(MEMORY_BYTES)}"
            )


if __name__ == "__main__":
    main()
