"""Make the demo's data set: procedural faces, real and fake, as real video files.

    python scripts/make_demo_videos.py OUT_DIR [--train N] [--val N] [--test N] [--seed 0] [--workers N]

writes OUT_DIR/{train,val,test}/{real,fake}/<kind>_<number>.<container>; `demo_faces.py` says what they show.
Each split is half real, half fake, and a third of its fakes are of each kind. Files with the same number
div 3 share one recipe (codec, container, size, frame rate, number of frames), real and fake, of every kind:
the file's properties say nothing about its class.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import click
import demo_faces
import numpy as np
from tqdm import tqdm

SPLITS = ("train", "val", "test")
FAKE_KINDS = demo_faces.KINDS[1:]
MARKER = ".demo-videos.json"
OUR_NAMES = re.compile(rf"({'|'.join(demo_faces.KINDS)})_\d{{5}}\.\w+")

# Intra-only, at qualities that keep the noise: between frames that depend on one another, an unsteady gain
# costs bits, and the file's size alone would tell the temporal fakes (AUC up to 0.99). And every frame is
# filled up to the same number of bytes, as for broadcasting: the noise that a spatial fake lacks costs bits too.
ENCODINGS = (  # container, codec, pixel format, encoder options, bytes per pixel
    ("mp4", "libx264", "yuv420p", {"crf": "16", "preset": "superfast"}, 1.0),
    ("mkv", "libx264", "yuv444p", {"crf": "18", "preset": "superfast"}, 1.0),
    ("mov", "libx264", "yuv420p", {"crf": "14", "preset": "superfast"}, 1.0),
    ("avi", "mjpeg", "yuvj420p", {"qmin": "3", "qmax": "3"}, 0.7),
    ("mkv", "mjpeg", "yuvj422p", {"qmin": "4", "qmax": "4"}, 0.7),
    ("mov", "mjpeg", "yuvj444p", {"qmin": "5", "qmax": "5"}, 0.7),
    ("mov", "png", "rgb24", {"compression_level": "1"}, 2.8),
    ("mov", "prores_aw", "yuv422p10le", {"profile": "2"}, 1.0),
)
SIZES = ((64, 64), (80, 80), (96, 96), (96, 80), (80, 64), (72, 96))  # width, height, pixels
RATES = (Fraction(12), Fraction(15), Fraction(24), Fraction(25), Fraction(30000, 1001))
NUM_FRAMES = (16, 17, 18, 20)


@dataclass(frozen=True)
class Clip:
    """One file to make, by everything that it depends on."""

    path: Path
    kind: str
    recipe_seed: tuple[int, ...]
    content_seed: tuple[int, ...]
    fps: int | None = None  # instead of the recipe's


def list_clips(out_dir: Path, counts: dict[str, int], seed: int, fake_fps: int | None = None) -> list[Clip]:
    """Every file of the data set, in order."""
    clips = []
    for split_number, split in enumerate(SPLITS):
        for class_number, name in enumerate(("real", "fake")):
            for number in range((counts[split] + 1 - class_number) // 2):
                kind = FAKE_KINDS[number % 3] if name == "fake" else "real"
                recipe_seed = (seed, split_number, number // 3)
                container = draw_recipe(recipe_seed)[0][0]
                path = out_dir / split / name / f"{kind}_{number:05d}.{container}"
                content_seed = (seed, split_number, class_number, number)
                clips.append(Clip(path, kind, recipe_seed, content_seed, fake_fps if name == "fake" else None))
    return clips


def draw_recipe(recipe_seed: tuple[int, ...]) -> tuple:
    """(encoding, size, rate, number of frames); the encodings in turn, the rest by chance."""
    rng = np.random.default_rng(recipe_seed)
    encoding = ENCODINGS[recipe_seed[-1] % len(ENCODINGS)]
    return encoding, *(options[rng.integers(len(options))] for options in (SIZES, RATES, NUM_FRAMES))


def make_clip(clip: Clip) -> None:
    encoding, (width, height), rate, num_frames = draw_recipe(clip.recipe_seed)
    rng = np.random.default_rng(clip.content_seed)
    frames = demo_faces.clip(rng, clip.kind, num_frames, height, width)
    write_video(clip.path, frames, encoding, Fraction(clip.fps) if clip.fps else rate)


def write_video(path: Path, frames: np.ndarray, encoding: tuple, rate: Fraction) -> None:
    """Encode uint8 (T, H, W, 3) RGB frames, every one a key frame of the same number of bytes."""
    _, codec, pixel_format, options, bytes_per_pixel = encoding
    height, width = frames.shape[1:3]
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = height, width
        stream.pix_fmt = pixel_format
        stream.codec_context.gop_size = 1
        stream.codec_context.thread_count = 1
        pictures = [av.VideoFrame.from_ndarray(pixels, format="rgb24") for pixels in frames]
        for picture in (*pictures, None):  # None: what the encoder still holds
            for packet in stream.encode(picture):
                container.mux(fill_up(packet, codec, int(bytes_per_pixel * height * width)))


def fill_up(packet: av.Packet, codec: str, num_bytes: int) -> av.Packet:
    """The packet with filler that decoders skip: a filler NAL unit in H.264, zeros after the end in the others."""
    payload = bytes(packet)
    missing = num_bytes - len(payload)
    if missing < 6:
        raise ValueError(f"a {codec} frame has {len(payload)} of {num_bytes} bytes; raise its bytes per pixel")
    filler = b"\0\0\0\1\x0c" + b"\xff" * (missing - 6) + b"\x80" if codec == "libx264" else bytes(missing)
    filled = av.Packet(payload + filler)
    filled.stream, filled.time_base = packet.stream, packet.time_base
    filled.pts, filled.dts, filled.duration = packet.pts, packet.dts, packet.duration
    filled.is_keyframe = True
    return filled


def make_all(out_dir: Path, counts: dict[str, int], seed: int, workers: int, fake_fps: int | None = None) -> bool:
    """Make the data set in `out_dir`; False when the same one was there already."""
    here = Path(__file__).parent
    source = b"".join((here / name).read_bytes() for name in ("make_demo_videos.py", "demo_faces.py"))
    made_by = {"counts": counts, "seed": seed, "generator_sha256": hashlib.sha256(source).hexdigest()}
    made_by |= {"fake_fps": fake_fps} if fake_fps else {}
    clips = list_clips(out_dir, counts, seed, fake_fps)
    marker = out_dir / MARKER
    if marker.is_file() and marker.read_text() == json.dumps(made_by) and all(c.path.is_file() for c in clips):
        return False
    marker.unlink(missing_ok=True)
    for folder in sorted({clip.path.parent for clip in clips}):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if OUR_NAMES.fullmatch(old.name):
                old.unlink()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        done = pool.imap_unordered(make_clip, clips, chunksize=8)
        for _ in tqdm(done, "videos", len(clips), unit="video", disable=None):  # None: no bar in a log
            pass
    marker.write_text(json.dumps(made_by))
    return True


@click.command()
@click.argument("out_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option("--train", default=1800, show_default=True, type=click.IntRange(0), help="Videos to train on.")
@click.option("--val", default=240, show_default=True, type=click.IntRange(0), help="Videos to select by.")
@click.option("--test", default=600, show_default=True, type=click.IntRange(0), help="Videos to judge by.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--fake-fps", type=click.IntRange(1, 120), help="Of all fakes: a shortcut, for trainer.audit to find.")
@click.option("--workers", default=lambda: len(os.sched_getaffinity(0)), type=click.IntRange(1))
def main(out_dir: Path, train: int, val: int, test: int, seed: int, fake_fps: int | None, workers: int) -> None:
    """Make procedural face videos, real and fake, in OUT_DIR/{train,val,test}/{real,fake}/."""
    counts = {"train": train, "val": val, "test": test}
    made = make_all(out_dir, counts, seed, workers, fake_fps)
    print(f"{sum(counts.values())} videos {'made' if made else 'reused'} in {out_dir}")


if __name__ == "__main__":
    main()
