"""Videos with sound made by the tests themselves: a click when one frame flashes, and whatever else is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from media import numbered_picture

from shardify.audio.clip_sound import ClipSound, clip_sounds
from shardify.format.members.mel import Mel
from shardify.video.container import open_video
from shardify.video.decode import DecodedClip, decode_clips
from shardify.video.extract import Request
from shardify.video.resize import PictureMaker

FRAMES, FPS, FLASH = 30, 25, 25  # of a video; the frame that is white
CLICK_SECONDS = 0.004
COLUMNS = 4  # of a frame: 10 ms
MEL = Mel(rate=16_000, mels=8, columns=FRAMES * COLUMNS, window=5.0, hop=5.0, low=1000.0, high=8000.0)
BLOCK = 4096  # samples of a packet where the codec does not say
FAST = {"aac": {"aac_coder": "fast"}}


def hear(path: Path, member: Mel = MEL, **sampling: int) -> tuple[DecodedClip, ClipSound]:
    """The one clip of a video, by default of all its frames, and its sound."""
    with open_video(path) as file:
        request = Request(**{"frames": FRAMES, "make_picture": PictureMaker(16)} | sampling)
        (clip,) = decode_clips(file, request).clips
        (sound,) = clip_sounds(file, [clip.span], member)
    return clip, sound


def loudest_column(sound: ClipSound) -> int:
    return int(np.exp(sound.mel[0].astype(np.float64)).sum(axis=0).argmax())


def flash_seconds(video_start: float = 0.0) -> float:
    """The middle of the time for which the white frame is shown."""
    return video_start + (FLASH + 0.5) / FPS


def click_at(moment: float) -> Callable[[np.ndarray], np.ndarray]:
    """Faint noise, and 4 ms of a loud tone around `moment`: a function of times, seconds, as of `sounding_video`."""

    def waveform(times: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(0).normal(0, 1e-4, len(times))
        return noise + (np.abs(times - moment) < CLICK_SECONDS / 2) * 0.8 * np.sin(2 * np.pi * 3000 * times)

    return waveform


def sounding_video(
    path: Path,
    waveform: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    codec: str = "pcm_s16le",
    rate: int = 16_000,
    layout: str = "mono",
    start: float = 0.0,
    video_start: float = 0.0,
    gap: tuple[float, float] | None = None,
    video_codec: str = "mpeg4",
    container_options: dict[str, str] | None = None,
) -> Path:
    """A numbered video of FRAMES frames, of which number FLASH is white, with sound as long as it.

    waveform: the samples, (n,) or (C, n), at these times in seconds; None: a click while the white frame is shown.
    start, video_start: when sound and picture begin; gap: sound between these moments is left out, and not closed up.
    """
    samples_of = waveform or click_at(flash_seconds(video_start))
    end = video_start + FRAMES / FPS
    with av.open(path, "w", options=container_options or {}) as container:
        video = container.add_stream(video_codec, rate=FPS)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        sound = container.add_stream(codec, rate=rate, layout=layout, options=FAST.get(codec, {}))
        for stream in (video, sound):
            stream.codec_context.thread_count = 1
        frames = [(number / FPS + video_start, video, _picture(number, video_start)) for number in range(FRAMES)]
        frames += [(moment, sound, frame) for moment, frame in _sounds(sound, samples_of, start, end, gap)]
        for _, stream, frame in sorted(frames, key=lambda item: item[0]):
            container.mux(stream.encode(frame))
        container.mux(sound.encode(None))
        container.mux(video.encode(None))
    return path


def sound_file(path: Path, samples: np.ndarray, rate: int, codec: str = "pcm_s16le") -> Path:
    """Samples, (C, n) in −1 to 1, as a file of their own."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono" if len(samples) == 1 else "stereo")
        stream.codec_context.open()
        size = stream.codec_context.frame_size or BLOCK
        for number in range(0, samples.shape[1], size):
            container.mux(stream.encode(_frame(stream, samples[:, number : number + size], number)))
        container.mux(stream.encode(None))
    return path


_converter = functools.cache(av.AudioResampler)  # of sample formats; it keeps nothing back


def _picture(number: int, start: float) -> av.VideoFrame:
    white = np.full((32, 32, 3), 255, np.uint8)
    frame = av.VideoFrame.from_ndarray(white if number == FLASH else numbered_picture(number, 32, 32))
    frame = frame.reformat(format="yuv420p")
    frame.pts, frame.time_base = number + round(start * FPS), Fraction(1, FPS)
    return frame


def _sounds(sound, samples_of: Callable, start: float, end: float, gap: tuple[float, float] | None):
    """Frames of the encoder's size, with their moments."""
    sound.codec_context.open()
    size, rate = sound.codec_context.frame_size or BLOCK, sound.codec_context.sample_rate
    first, count = round(start * rate), round((end - start) * rate)
    samples = np.atleast_2d(samples_of((first + np.arange(count)) / rate)).astype(np.float32)
    for number in range(0, count, size):
        part, moment = samples[:, number : number + size], (first + number) / rate
        if sound.codec_context.frame_size:
            part = np.pad(part, ((0, 0), (0, size - part.shape[1])))
        if not (gap and gap[0] <= moment < gap[1]):
            yield moment, _frame(sound, part, first + number)


def _frame(sound, samples: np.ndarray, number: int) -> av.AudioFrame:
    context = sound.codec_context
    channels = context.layout.nb_channels
    in_turns = np.broadcast_to(samples, (channels, samples.shape[1])).T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(in_turns.astype(np.float32), "flt", context.layout.name)
    frame.sample_rate = context.sample_rate
    (frame,) = _converter(context.format.name, context.layout.name, context.sample_rate).resample(frame)
    frame.pts, frame.time_base = number, Fraction(1, context.sample_rate)
    return frame
