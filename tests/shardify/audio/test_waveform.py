"""Sound stands where its own times say: a click is in the columns of the frame that flashes, whatever holds it."""

import numpy as np
import pytest
from sound import FRAMES, sounding_video

from shardify.audio.clip_sound import clip_sounds
from shardify.format.members.mel import Mel
from shardify.video.container import open_video
from shardify.video.decode import decode_clips
from shardify.video.extract import Request
from shardify.video.resize import PictureMaker

COLUMNS = 4  # of a frame: 10 ms
MEL = Mel(rate=16_000, mels=8, columns=FRAMES * COLUMNS, window=5.0, hop=5.0, low=1000.0, high=8000.0)
AAC = {"codec": "aac", "rate": 48_000}
CONTAINERS = {
    "aac.mp4": AAC | {"layout": "stereo"},
    "aac44.mp4": AAC | {"rate": 44_100},
    "fragmented.mp4": AAC | {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "no_edit_list.mp4": AAC | {"container_options": {"use_editlist": "0"}},
    "mp3.mp4": {"codec": "libmp3lame", "rate": 48_000},
    "opus.mkv": {"codec": "libopus", "rate": 48_000},
    "aac.mkv": AAC,
    "flac.mkv": {"codec": "flac", "rate": 48_000},
    "pcm.avi": {"rate": 48_000},
    "mp3.avi": {"codec": "libmp3lame", "rate": 48_000},
    "pcm.mov": {"rate": 48_000},
    "pcm250.mov": {"rate": 250_000},
    "alac.mov": {"codec": "alac", "rate": 192_000},
    "aac.ts": AAC | {"video_codec": "mpeg2video"},
    "mp2.mpg": {"codec": "mp2", "rate": 48_000, "video_codec": "mpeg2video"},
    "aac.flv": AAC | {"video_codec": "flv1"},
}
SHIFTS = {
    "together": {},
    "sound later": {"start": 0.5},
    "video later": {"video_start": 0.4},
    "both later": {"start": 0.5, "video_start": 0.4},
    "sound earlier": {"start": -0.2},
    "gap": {"gap": (0.3, 0.8)},
}


def can_hold(container, shift):
    """AVI has no times: what begins later is written as if it did not. QuickTime's PCM has no gaps."""
    return shift == "together" or not (".avi" in container or (shift == "gap" and "pcm" in container))


def hear(path, member=MEL, **sampling):
    """The clip, and its sound."""
    with open_video(path) as file:
        (clip,) = decode_clips(file, Request(**{"frames": FRAMES, "make_picture": PictureMaker(16)} | sampling)).clips
        (sound,) = clip_sounds(file, [clip.span], member)
    return clip, sound


def loudest_column(sound):
    return int(np.exp(sound.mel[0].astype(np.float64)).sum(axis=0).argmax())


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_click_lies_in_the_columns_of_the_frame_that_flashes(container, tmp_path):
    found = {}
    for shift, times in SHIFTS.items():
        if can_hold(container, shift):
            clip, sound = hear(sounding_video(tmp_path / container, **CONTAINERS[container], **times))
            brightness = clip.frames.mean(axis=(1, 2, 3))
            assert brightness.max() > 240 and sound.errors == 0
            late = loudest_column(sound) / COLUMNS - int(brightness.argmax())
            found[shift] = late
    allowed = (-0.75, 1.75) if container == "mp3.avi" else (0, 0.75)  # frames of 40 ms
    assert all(allowed[0] <= late <= allowed[1] for late in found.values()), found


@pytest.mark.parametrize("container", ["aac.mkv", "aac.mp4", "aac.ts"])
def test_a_gap_is_counted_and_is_floor(container, tmp_path):
    _, sound = hear(sounding_video(tmp_path / container, **CONTAINERS[container], gap=(0.3, 0.8)))
    assert abs(sound.coverage - (1 - 0.5 * 25 / FRAMES)) < 0.02
    assert (sound.mel[0, :, 36:72] == np.float16(np.log(1e-10))).all()
