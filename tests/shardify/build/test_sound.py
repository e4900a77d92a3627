"""Builds with sound, from videos to tables, and the tools that look after such a folder."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from builds import make_job, run_build, tree, unpack
from click.testing import CliRunner
from media import numbered_video
from sound import FPS, FRAMES, click_at, sound_file, sounding_video

from shardify.build.build_shard import library_versions, plan_hash
from shardify.build.encode import make_samples
from shardify.build.estimate import estimate_build
from shardify.build.plan import ShardPlan
from shardify.build.request import BuildRequest, Changes
from shardify.cli.main import main
from shardify.errors import UsageError, VideoError
from shardify.format.index import read_index, read_rows
from shardify.format.members.mel import FLOOR
from shardify.format.settings import BuildSettings
from shardify.format.tar import read_shard
from shardify.machine import vector_units
from shardify.sources.source import SoundFile
from shardify.tools.info import describe
from shardify.tools.repair import repair_folder
from shardify.tools.verify import verify_folder

SOUND = {"audio": "auto", "audio_mels": 8, "audio_columns": 24, "audio_low": 500.0}
LENGTH = FRAMES / FPS


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sound in the video, beside it, none, and digital silence."""
    data = tmp_path_factory.mktemp("sound")
    sounding_video(data / "own.mkv")
    sounding_video(data / "silent.mkv", lambda times: 0 * times)
    numbered_video(data / "without.mkv", FRAMES, size=(32, 32), codec="mpeg4", rate=FPS)
    later = range(10, 10 + FRAMES)  # the first frame is shown at 0.4 s
    numbered_video(data / "beside.mkv", FRAMES, size=(32, 32), codec="mpeg4", rate=FPS, times=later)
    times = np.arange(-16_000, 32_000) / 16_000
    sound_file(data / "beside.wav", click_at(0.65)(times)[None], 16_000)
    rows = ["own.mkv,a,,", "silent.mkv,b,,", "without.mkv,a,,", "beside.mkv,b,beside.wav,-1.0"]
    (data / "list.csv").write_text("path,class,audio,audio_offset\n" + "\n".join(rows) + "\n")
    return data


@pytest.fixture(scope="module")
def shards(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "out"
    run_build(data, out, manifest=data / "list.csv", val_fraction=0.0, test_fraction=0.0, workers=1, **SOUND)
    return out


@pytest.fixture
def copy(shards, tmp_path):
    return shutil.copytree(shards, tmp_path / "copy")


def records(folder):
    """What the records say, by source."""
    (tar,) = folder.glob("*.tar")
    found = [json.loads(content) for name, _, content in read_shard(tar) if "json" in name]
    return {record["source"]: record for record in found}


def test_records_and_tables_say_which_clips_have_sound(data, shards):
    found = records(shards)
    assert {name: record["has_audio"] for name, record in found.items()} == {
        "own.mkv": True, "silent.mkv": True, "without.mkv": False, "beside.mkv": True,
    }  # fmt: skip
    assert (found["beside.mkv"]["audio"], found["beside.mkv"]["audio_offset"]) == ("beside.wav", -1.0)
    index, rows = read_index(shards), read_rows(shards)
    assert index.samples["mel_present"].tolist() == [row["has_audio"] == "True" for row in rows]
    assert all(float(row["audio_level_db"]) == found[row["source"]]["audio_level_db"] for row in rows)
    assert describe(shards)["sound"] == {"with": 3, "without": 1, "silent": 1, "narrow": 0}
    assert verify_folder(shards, 1) == []


def test_every_clip_has_the_member_and_it_is_where_the_table_says(shards):
    index = read_index(shards)
    mel = index.members["mel"]
    content = (shards / "train-000000.tar").read_bytes()
    loudest = {}
    for row, record in zip(read_rows(shards), index.samples, strict=True):
        start, length = int(record["mel_offset"]), int(record["mel_length"])
        values = mel.decode(content[start : start + length])
        loudest[row["source"]] = int(np.exp(values[0].astype(float)).sum(axis=0).argmax())
        assert (values == np.float16(FLOOR)).all() == (row["source"] in ("silent.mkv", "without.mkv"))
    assert loudest["beside.mkv"] == int(0.65 / LENGTH * 24) and loudest["own.mkv"] == int(1.02 / LENGTH * 24)


def test_any_number_of_workers_gives_the_same_folder(data, shards, tmp_path):
    run_build(data, tmp_path / "out", manifest=data / "list.csv", val_fraction=0.0, test_fraction=0.0, **SOUND)
    assert tree(tmp_path / "out") == tree(shards)


@pytest.mark.parametrize("kept", ["tars", "unpacked"])
def test_a_flipped_bit_of_the_sound_is_found_and_repaired(data, copy, shards, kept):
    if kept == "unpacked":
        unpack(copy)
        path = next((copy / "train-000000").glob("*.mel.npy"))
        place = 300
    else:
        path, place = copy / "train-000000.tar", int(read_index(copy).samples["mel_offset"][1]) + 300
    before = path.read_bytes()
    path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
    (damage,) = verify_folder(copy, 1)
    assert damage.problem == "mel does not have the CRC of samples.npy"
    repair_folder(data, copy)
    assert path.read_bytes() == before and verify_folder(copy, 1) == []


def test_damaged_tables_are_made_again(data, copy):
    for name in ("samples.npy", "samples.csv"):
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(before[:200] + b"x" + before[201:])
        assert verify_folder(copy, 1) != []
        repair_folder(data, copy)
        assert (copy / name).read_bytes() == before


def test_clips_that_stay_keep_their_sound_when_others_are_dropped(data, copy):
    rows = (data / "list.csv").read_text().splitlines()
    (data / "fewer.csv").write_text("\n".join(rows[:2] + rows[3:]) + "\n")  # without silent.mkv
    before = read_index(copy).samples["mel_present"].tolist()
    options = {"manifest": data / "fewer.csv", "val_fraction": 0.0, "test_fraction": 0.0, "workers": 1, **SOUND}
    run_build(data, copy, changes=Changes(prune=True), **options)
    assert sum(before) - sum(read_index(copy).samples["mel_present"].tolist()) == 1
    assert len(records(copy)) == 3 and verify_folder(copy, 1) == []


def test_the_preview_shows_the_spectrogram_below_the_frames(shards, tmp_path):
    from PIL import Image

    done = CliRunner().invoke(main, ["preview", str(shards), "-o", str(tmp_path / "p.png"), "--per-class", "1"])
    assert done.exit_code == 0, done.output
    assert Image.open(tmp_path / "p.png").size == (4 * 32, 2 * (28 + 32 + 8))


def test_an_estimate_says_how_many_clips_have_sound(data):
    settings = BuildSettings(frames=4, size=32, **SOUND)
    request = BuildRequest(data, None, settings, manifest=data / "list.csv", workers=1)
    assert "3 of their 4 clips have sound" in estimate_build(request).lines()


def test_require_fails_what_has_no_sound(data):
    settings = BuildSettings(frames=4, size=32, clips=2, **SOUND | {"audio": "require"})
    with pytest.raises(VideoError, match=r"^no sound \(refused by --audio require\)$"):
        make_samples(make_job(data / "without.mkv"), settings)
    assert len(make_samples(make_job(data / "silent.mkv"), settings)) == 2
    late = sounding_video(data / "late.mkv", start=0.8)
    with pytest.raises(VideoError, match=r"^no sound in its clip 0 "):
        make_samples(make_job(late), settings)


def test_strict_refuses_damaged_sound(data):
    path = sounding_video(data / "nan.mkv", lambda times: np.nan * times, codec="pcm_f32le")
    (sample,) = make_samples(make_job(path), BuildSettings(frames=4, size=32, **SOUND))
    assert json.loads(sample.members["json"])["audio_errors"] > 0
    with pytest.raises(VideoError, match=r"^damaged: \d+ errors in its sound \(refused by --strict\)$"):
        make_samples(make_job(path), BuildSettings(frames=4, size=32, strict=True, **SOUND))


def test_a_changed_sound_file_is_noticed(data, copy, tmp_path, caplog):
    moved = shutil.copytree(data, tmp_path / "data")
    sound_file(moved / "beside.wav", np.zeros((1, 9000)), 16_000)
    caplog.set_level("INFO", "shardify")
    options = {"manifest": moved / "list.csv", "val_fraction": 0.0, "test_fraction": 0.0, "workers": 1, **SOUND}
    run_build(moved, copy, **options)
    assert "changed since the last build: 1 videos, for example beside.mkv" in caplog.text


def test_a_build_without_sound_says_that_the_column_is_left_alone(data, tmp_path, caplog):
    caplog.set_level("INFO", "shardify")
    with pytest.raises(UsageError, match="other settings \\(audio none → auto"):
        run_build(data, tmp_path / "out", manifest=data / "list.csv", workers=1)
        run_build(data, tmp_path / "out", manifest=data / "list.csv", workers=1, **SOUND)
    assert "the manifest's column audio is left alone" in caplog.text
    assert "mel" not in read_index(tmp_path / "out").members


def test_bands_that_would_be_empty_stop_the_build_before_anything_is_decoded(data, tmp_path):
    narrow = SOUND | {"audio_mels": 400, "audio_window": 2.0}
    with pytest.raises(UsageError, match=r"--audio-mels 400 .* bands too narrow"):
        run_build(data, tmp_path / "out", manifest=data / "list.csv", **narrow)


def test_what_decides_the_bytes_of_a_shard_is_the_sound_file_and_the_processor_where_sound_is_kept(data, tmp_path):
    path = sound_file(tmp_path / "a.wav", np.zeros((1, 9)), 16_000)
    job = replace(make_job(data / "own.mkv"), sound=SoundFile(path, "a.wav", 0.0))
    silent, sounding = BuildSettings(), BuildSettings(audio="auto")
    before = [plan_hash(ShardPlan("train", 0, (job,)), settings) for settings in (silent, sounding)]
    os.utime(path, (1, 1))
    after = [plan_hash(ShardPlan("train", 0, (job,)), settings) for settings in (silent, sounding)]
    assert before[0] == after[0] and before[1] != after[1]
    assert library_versions(sounding)["cpu"] == vector_units() and "cpu" not in library_versions(silent)


def test_a_row_is_tried_again_when_its_sound_file_comes(data, tmp_path, caplog):
    here, out = shutil.copytree(data, tmp_path / "data"), tmp_path / "out"
    (here / "beside.wav").rename(tmp_path / "late.wav")
    options = {"manifest": here / "list.csv", "val_fraction": 0.0, "test_fraction": 0.0, **SOUND}
    assert run_build(here, out, **options).failures == {
        "its sound file beside.wav: cannot be opened: No such file or directory": 1
    }
    assert run_build(here, out, **options).new_inputs == 0
    (tmp_path / "late.wav").rename(here / "beside.wav")
    assert run_build(here, out, **options).failed_inputs == 0
    assert "fixed since the last build: 1 rows that had failed" in caplog.text
