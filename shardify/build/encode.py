"""One task → its clips as members and rows, or the reason why there are none. Runs in a worker process."""

from __future__ import annotations

import os
import zlib
from itertools import pairwise

from shardify.build.job import Task
from shardify.build.settings import BuildSettings
from shardify.errors import VideoError
from shardify.format.index import ADDED_COLUMNS, PAYLOAD_EXTENSION, json_bytes, sha256
from shardify.format.members import frames
from shardify.format.shard import Sample
from shardify.sources.fingerprint import open_fingerprint
from shardify.video.container import open_video
from shardify.video.decode import DecodedVideo, decode_clips


def make_samples(task: Task, settings: BuildSettings) -> list[Sample]:
    """Decode, resize and encode every clip of one video.

    Raises VideoError with the reason, and MemoryError, which ends the worker.
    """
    try:
        with open_video(task.path) as file:
            before = os.fstat(file.file.fileno())
            video = decode_clips(
                file,
                frames=settings.frames,
                size=settings.size,
                clips=settings.clips,
                stride=settings.stride,
                fit=settings.fit,
                box=task.box,
                strict=settings.strict,
                decoder=settings.decoder,
            )
            fingerprint = open_fingerprint(file.file, before.st_size, settings.full_hash)
        after = os.stat(task.path)
    except (VideoError, MemoryError):
        raise
    except OSError as error:
        raise VideoError(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # libav raises a dozen unrelated types for damaged files
        raise VideoError(f"cannot be decoded ({type(error).__name__}: {error})") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise VideoError("changed while it was read; build again when it is complete")
    source = {"source": task.source, "source_bytes": before.st_size, "source_fingerprint": fingerprint}
    return [_pack_clip(task, settings, video, number, source) for number in range(len(video.clips))]


def _pack_clip(task: Task, settings: BuildSettings, video: DecodedVideo, number: int, source: dict) -> Sample:
    clip, info = video.clips[number], video.info
    key = task.key if settings.clips == 1 else f"{task.key}-{number:03d}"
    if settings.codec == "jpeg":
        payload = frames.encode_jpeg(frames.to_sheet(clip.frames), settings.quality)
    else:
        payload = frames.encode_raw(clip.frames)
    payload_sha256 = sha256(payload)
    record = {
        "key": key,
        **source,
        "split": task.split,
        "label": task.label,
        "class": task.class_name,
        "target": float(task.target),
        "group": task.group,
        "clip": number,
        "clips": settings.clips,
        "frames": settings.frames,
        "size": settings.size,
        "grid": list(frames.grid_shape(settings.frames)),
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
        "payload_sha256": payload_sha256,
    }
    record_bytes = json_bytes(record)
    columns = (
        "split",
        "label",
        "class",
        "target",
        "group",
        "duration_seconds",
        "source_width",
        "source_height",
        "codec",
        *ADDED_COLUMNS,
    )
    row = {
        "key": key,
        **source,
        **{name: record[name] for name in columns},
        "status": "ok",
        "payload_sha256": payload_sha256,
        "record_sha256": sha256(record_bytes),
        "crc": zlib.crc32(payload),
    }
    members = {
        "cls": str(task.label).encode(),
        PAYLOAD_EXTENSION[settings.codec]: payload,
        "json": record_bytes,
    }
    return Sample(key, members, row, video.decoder)
