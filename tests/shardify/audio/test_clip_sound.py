"""What is said of odd sounds, and sound in files beside videos."""

from fractions import Fraction

import av
import numpy as np
import pytest
from media import numbered_video
from sound import (
    COLUMNS,
    FLASH,
    FPS,
    FRAMES,
    MEL,
    click_at,
    flash_seconds,
    hear,
    loudest_column,
    sound_file,
    sounding_video,
)

from shardify.audio.clip_sound import clip_sounds
from shardify.errors import VideoError
from shardify.format.members.mel import FLOOR
from shardify.video.container import open_video

LENGTH = FRAMES / FPS


def tone(times):
    return 0.5 * np.sin(2 * np.pi * 2000 * times)


def said(sound):
    return sound.is_present, round(sound.coverage, 3), round(sound.level_db), sound.errors


def test_levels_and_silence(tmp_path):
    loud = hear(sounding_video(tmp_path / "a.mkv", tone))[1]
    silent = hear(sounding_video(tmp_path / "b.mkv", lambda times: 0 * times))[1]
    assert said(loud) == (True, 1.0, -9, 0) and said(silent) == (True, 1.0, -200, 0)
    assert (silent.mel == np.float16(FLOOR)).all()
    assert loud.to_record() == {
        "has_audio": True, "audio_codec": "pcm_s16le", "audio_source_rate": 16_000, "audio_channels": 1,
        "audio_start_seconds": 0.0, "audio_span_seconds": LENGTH, "audio_coverage": 1.0, "audio_level_db": -9.03,
        "audio_errors": 0,
    }  # fmt: skip


def test_a_few_samples_at_the_end(tmp_path):
    start = LENGTH - 10 / 16_000
    sound = hear(sounding_video(tmp_path / "a.mkv", lambda times: 0.5 + 0 * times, start=start, rate=48_000))[1]
    assert sound.is_present and sound.coverage == pytest.approx(10 / 16_000 / LENGTH, rel=0.2)
    assert (sound.mel[..., :-1] == np.float16(FLOOR)).all() and (sound.mel[..., -1] > FLOOR + 1).all()


def test_sound_outside_the_span_is_none(tmp_path):
    video = sounding_video(tmp_path / "a.mkv", tone, start=0.9)
    clip, sound = hear(video, frames=1, stride=1)
    assert clip.span == pytest.approx((15 / FPS, 1 / FPS), abs=0.001)
    assert said(sound) == (False, 0.0, -200, 0) and (sound.mel == np.float16(FLOOR)).all()


def test_channels_are_averaged_by_their_power(tmp_path):
    mono = hear(sounding_video(tmp_path / "mono.mkv", tone))[1]
    opposite = hear(
        sounding_video(tmp_path / "b.mkv", lambda times: np.stack([tone(times), -tone(times)]), layout="stereo")
    )[1]
    six, eight = (hear(sounding_video(tmp_path / "c.mkv", tone, layout=layout))[1] for layout in ("5.1", "7.1"))
    assert all(np.array_equal(mono.mel, sound.mel) for sound in (opposite, six, eight))
    assert [sound.info.channels for sound in (opposite, six, eight)] == [2, 6, 8]


def test_samples_that_are_no_numbers(tmp_path):
    def waveform(times):
        return np.where(times < 0.5, np.nan, tone(times))

    sound = hear(sounding_video(tmp_path / "a.mkv", waveform, codec="pcm_f32le"))[1]
    assert np.isfinite(sound.mel).all() and sound.errors > 0 and sound.level_db > -12


def test_a_change_of_rate_within_a_track(tmp_path):
    """MPEG audio says its rate in every frame."""
    with av.open(tmp_path / "a.ts", "w") as container:
        video, track = container.add_stream("mpeg2video", rate=FPS), container.add_stream("mp2", rate=48_000)
        video.width = video.height = 32
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8))
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        at = 0.0
        for rate in (48_000, 32_000):
            encoder = av.CodecContext.create("mp2", "w")
            encoder.sample_rate, encoder.layout, encoder.format = rate, "mono", "s16"
            encoder.open()
            for number in range(16):
                times = (number * 1152 + np.arange(1152)) / rate
                frame = av.AudioFrame.from_ndarray((tone(times) * 32_767).astype(np.int16)[None], "s16", "mono")
                frame.sample_rate = rate
                for packet in encoder.encode(frame):
                    packet.stream, packet.time_base = track, Fraction(1, 90_000)
                    packet.pts = packet.dts = round(at * 90_000)
                    at += 1152 / rate
                    container.mux(packet)
    sound = hear(tmp_path / "a.ts")[1]
    assert sound.errors == 0 and sound.coverage > 0.78
    bands = sound.mel[0].astype(float).argmax(axis=0)[5:90]
    assert np.bincount(bands).max() > 0.9 * len(
        bands
    )  # the same tone, but for a frame for which libav has the old rate


def test_broken_sound_beside_sound_pictures(tmp_path):
    whole = sounding_video(tmp_path / "a.mp4", tone, codec="aac", rate=48_000)
    content = whole.read_bytes()
    with av.open(whole) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size][20:30]
    broken = bytearray(content)
    for place, size in places:
        broken[place : place + size] = np.random.default_rng(0).bytes(size)
    (tmp_path / "b.mp4").write_bytes(broken)
    sound = hear(tmp_path / "b.mp4")[1]
    assert sound.is_present and sound.errors > 0 and sound.coverage < 0.99
    assert np.array_equal(sound.mel[..., :30], hear(whole)[1].mel[..., :30])


def test_no_sound_track(tmp_path):
    _, sound = hear(numbered_video(tmp_path / "a.mkv", FRAMES))
    assert said(sound) == (False, 0.0, -200, 0) and sound.info.codec == "" and sound.mel.shape == MEL.shape


@pytest.mark.parametrize(
    ("name", "codec"), [("a.wav", "pcm_s16le"), ("a.flac", "flac"), ("a.mp3", "libmp3lame"), ("a.aac", "aac")]
)
def test_a_file_beside_the_video_begins_where_it_is_said_to(name, codec, tmp_path):
    rate, offset = 48_000, -3.0
    times = np.arange(6 * rate) / rate
    path = sound_file(tmp_path / name, click_at(flash_seconds() - offset)(times)[None], rate, codec)
    with open_video(path) as file:
        (sound,) = clip_sounds(file, [(0.0, LENGTH)], MEL, offset)
    late = loudest_column(sound) / COLUMNS - FLASH
    priming = 1.3 if codec in ("libmp3lame", "aac") else 0  # whose length the file does not say, in frames of 40 ms
    assert 0 <= late <= 0.75 + priming and sound.coverage == 1.0


def test_only_what_is_wanted_is_decoded_and_it_is_the_same(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 10 * 16_000))
    whole = sound_file(tmp_path / "whole.wav", noise, 16_000)
    part = sound_file(tmp_path / "part.wav", noise[:, 4 * 16_000 : 8 * 16_000], 16_000)
    found = []
    for path, first_at in ((whole, 0.0), (part, 4.0)):
        with open_video(path) as file:
            found.append(clip_sounds(file, [(1.0, 0.5), (5.0, 1.0), (6.0, 1.0)], MEL, first_at))
    assert all(np.array_equal(one.mel, other.mel) for one, other in zip(*found, strict=True) if other.is_present)
    assert [sound.is_present for sound in found[0]] == [True, True, True]
    assert [sound.is_present for sound in found[1]] == [False, True, True]


def test_a_file_beside_that_is_no_sound(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no sound at all")
    with pytest.raises(VideoError, match="not a video, or damaged"), open_video(tmp_path / "a.wav") as file:
        clip_sounds(file, [(0.0, 1.0)], MEL, 0.0)
    with pytest.raises(VideoError, match="holds no sound"), open_video(numbered_video(tmp_path / "b.mkv", 3)) as file:
        clip_sounds(file, [(0.0, 1.0)], MEL, 0.0)


def test_a_clock_that_begins_anew_ends_the_sound(tmp_path):
    first = sounding_video(tmp_path / "a.ts", tone, codec="mp2", rate=48_000, video_codec="mpeg2video")
    (tmp_path / "b.ts").write_bytes(2 * first.read_bytes())
    sound = hear(tmp_path / "b.ts")[1]
    assert sound.errors == 1 and 0.4 < sound.coverage < 0.6
