"""Make the behaviour demo's data set: animals that move and call, as real video files with sound.

    python scripts/make_behaviour_videos.py OUT_DIR [--train N] [--val N] [--test N] [--seed 0] [--workers N]

writes OUT_DIR/{train,val,test}/<number>.<container> and OUT_DIR/videos.csv, the manifest; `behaviour_clips.py` says
what they show. Twelve files that follow one another show all twelve combinations of species, motion and call, and
share one recipe (container, codecs, frame rate, start of the sound): the file's properties say nothing about its
classes. Of train, some 5% of the files have no sound and some 10% of the rows no species.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import multiprocessing
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import behaviour_clips
import click
import numpy as np
from tqdm import tqdm

SPLITS = ("train", "val", "test")
COMBINATIONS = tuple(itertools.product(behaviour_clips.SPECIES, behaviour_clips.MOTIONS, behaviour_clips.CALLS))
MARKER = ".behaviour-videos"
SIDE = 48  # pixels
RATES = (15, 20, 25)  # frames per second; 0.2 s are whole frames of all of them
NO_SOUND, NO_SPECIES = 0.05, 0.1  # shares of train
OFFSETS = {"mp4": (0.0, 0.3, -0.2), "mkv": (0.0, 0.3, -0.2), "mov": (0.0, 0.3, -0.2), "avi": (0.0,)}  # avi has no times


@dataclass(frozen=True)
class Encoding:
    """A container and its codecs."""

    container: str
    video: str
    pixel_format: str
    audio: str
    options: tuple[tuple[str, str], ...] = ()  # of the sound's encoder


ENCODINGS = (
    Encoding("mp4", "libx264", "yuv420p", "aac"),
    Encoding("mkv", "libx264", "yuv420p", "libopus", (("vbr", "off"),)),
    Encoding("mov", "libx264", "yuv444p", "pcm_s16le"),
    Encoding("avi", "mjpeg", "yuvj420p", "pcm_s16le"),
)
VIDEO_OPTIONS = {"libx264": {"crf": "18", "preset": "superfast", "threads": "1"}, "mjpeg": {"qmin": "3", "qmax": "3"}}


@dataclass(frozen=True)
class Clip:
    """One file to make, by everything that it depends on."""

    name: str  # below the data set's folder
    seed: tuple[int, int, int]
    species: str
    motion: str
    call: str
    encoding: Encoding
    rate: int
    offset: float  # seconds, of the first sample after the first frame
    has_sound: bool
    has_species: bool  # in the manifest


def list_clips(counts: dict[str, int], seed: int) -> list[Clip]:
    """Every file of the data set, in order."""
    clips = []
    for split_number, split in enumerate(SPLITS):
        for number in range(counts[split]):
            recipe = np.random.default_rng((seed, split_number, number // len(COMBINATIONS)))
            encoding = ENCODINGS[number // len(COMBINATIONS) % len(ENCODINGS)]
            own = np.random.default_rng((seed, split_number, number, 0))
            lacks_sound, lacks_species = own.random(2) < (NO_SOUND, NO_SPECIES)
            clips.append(
                Clip(
                    f"{split}/{number:04d}.{encoding.container}",
                    (seed, split_number, number),
                    *COMBINATIONS[number % len(COMBINATIONS)],
                    encoding,
                    rate=int(recipe.choice(RATES)),
                    offset=float(recipe.choice(OFFSETS[encoding.container])),
                    has_sound=split != "train" or not lacks_sound,
                    has_species=split != "train" or not lacks_species,
                )
            )
    return clips


def make_clip(path: Path, clip: Clip) -> None:
    """Encode one file, to the same bytes wherever it is made."""
    rng = np.random.default_rng((*clip.seed, 1))
    count = round(behaviour_clips.SECONDS * clip.rate)
    frames = behaviour_clips.frames_of(rng, clip.species, clip.motion, count, SIDE)
    samples = behaviour_clips.sound_of(rng, clip.call) if clip.has_sound else None
    with av.open(path, "w", container_options={"fflags": "+bitexact"}) as container:
        video = container.add_stream(clip.encoding.video, rate=clip.rate, options=VIDEO_OPTIONS[clip.encoding.video])
        video.width = video.height = SIDE
        video.pix_fmt = clip.encoding.pixel_format
        packets = _video_packets(video, frames, round(max(0.0, -clip.offset) * clip.rate))
        if samples is not None:
            audio = container.add_stream(
                clip.encoding.audio, rate=behaviour_clips.SAMPLE_RATE, options=dict(clip.encoding.options)
            )
            audio.layout = "mono"
            packets += _audio_packets(audio, samples, max(0.0, clip.offset))
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)


def _video_packets(stream: av.VideoStream, frames: np.ndarray, start: int) -> list[av.Packet]:
    """The encoded frames, the first one after the time of `start` frames."""
    packets = []
    for number, pixels in enumerate(frames, start):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts = number
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]


def _audio_packets(stream: av.AudioStream, samples: np.ndarray, start: float) -> list[av.Packet]:
    """The encoded sound, its first sample at `start` seconds."""
    rate = behaviour_clips.SAMPLE_RATE
    whole = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
    whole.sample_rate, whole.pts, whole.time_base = rate, round(start * rate), Fraction(1, rate)
    return [*stream.encode(whole), *stream.encode(None)]


def manifest(clips: list[Clip]) -> str:
    """The table of all files and their labels."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "split", "label.species", "label.behaviour"))
    for clip in clips:
        split, species = clip.name.split("/")[0], clip.species if clip.has_species else ""
        table.writerow((clip.name, split, species, f"{clip.motion}-{clip.call}"))
    return text.getvalue()


def make_all(out_dir: Path, counts: dict[str, int], seed: int, workers: int) -> bool:
    """Make the data set in `out_dir`; False when the same one was there already."""
    here, clips = Path(__file__).parent, list_clips(counts, seed)
    source = b"".join((here / name).read_bytes() for name in ("make_behaviour_videos.py", "behaviour_clips.py"))
    table, marker = manifest(clips), out_dir / MARKER
    made_by = hashlib.sha256(source + f"{seed} {table}".encode()).hexdigest()
    if marker.is_file() and marker.read_text() == made_by and all((out_dir / clip.name).is_file() for clip in clips):
        return False
    marker.unlink(missing_ok=True)
    for split in SPLITS:
        (out_dir / split).mkdir(parents=True, exist_ok=True)
        for old in (out_dir / split).iterdir():
            if old.stem.isdecimal() and old.suffix[1:] in OFFSETS:
                old.unlink()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        done = pool.imap_unordered(_make, [(out_dir / clip.name, clip) for clip in clips], chunksize=8)
        for _ in tqdm(done, "videos", len(clips), unit="video", disable=None):  # None: no bar in a log
            pass
    (out_dir / "videos.csv").write_text(table)
    marker.write_text(made_by)
    return True


def _make(job: tuple[Path, Clip]) -> None:
    make_clip(*job)


@click.command()
@click.argument("out_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option("--train", default=1000, show_default=True, type=click.IntRange(0), help="Videos to train on.")
@click.option("--val", default=200, show_default=True, type=click.IntRange(0), help="Videos to select by.")
@click.option("--test", default=500, show_default=True, type=click.IntRange(0), help="Videos to judge by.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--workers", default=lambda: len(os.sched_getaffinity(0)), type=click.IntRange(1))
def main(out_dir: Path, train: int, val: int, test: int, seed: int, workers: int) -> None:
    """Make videos of animals that move and call in OUT_DIR/{train,val,test}/, and their manifest."""
    counts = {"train": train, "val": val, "test": test}
    made = make_all(out_dir, counts, seed, workers)
    print(f"{sum(counts.values())} videos {'made' if made else 'reused'} in {out_dir}")


if __name__ == "__main__":
    main()
