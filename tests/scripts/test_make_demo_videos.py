"""The demo's data: the same mix of files in every class, clues that only time shows, no shortcut."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.format.settings import BuildSettings
from trainer.audit import main as audit

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import demo_faces  # noqa: E402
import make_demo_videos as maker  # noqa: E402

COUNTS = {"train": 48, "val": 12, "test": 24}  # of train: each encoding once in every kind


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out_dir = tmp_path_factory.mktemp("demo")
    assert maker.make_all(out_dir, COUNTS, seed=0, workers=2)
    return out_dir


def kind_of(path: Path) -> str:
    return path.name.split("_")[0]


def probe(path: Path) -> dict:
    with av.open(path) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        return {
            "container": path.suffix,
            "codec": stream.codec_context.name,
            "pixel_format": stream.codec_context.pix_fmt,
            "width": stream.width,
            "height": stream.height,
            "fps": stream.average_rate,
            "frames": len(packets),
            "duration_seconds": round((container.duration or 0) / av.time_base, 3),
            "all_key_frames": all(packet.is_keyframe for packet in packets),
            "packet_bytes": tuple(packet.size for packet in packets),
            "bytes": path.stat().st_size,
        }


@pytest.fixture(scope="module")
def probes(data_set: Path) -> dict[Path, dict]:
    return {path: probe(path) for path in sorted(data_set.glob("*/*/*"))}


def test_layout_and_counts(data_set: Path) -> None:
    for split, count in COUNTS.items():
        assert Counter(kind_of(path) for path in (data_set / split / "real").iterdir()) == {"real": count // 2}
        fakes = Counter(kind_of(path) for path in (data_set / split / "fake").iterdir())
        assert fakes == dict.fromkeys(("spatial", "flicker", "order"), count // 6)


def test_every_frame_is_a_key_frame_and_decodes(probes: dict[Path, dict]) -> None:
    assert all(info["all_key_frames"] for info in probes.values())
    assert {info["codec"] for info in probes.values()} == {"h264", "mjpeg", "png", "prores"}
    assert {info["container"] for info in probes.values()} == {".mp4", ".mkv", ".mov", ".avi"}
    for path in list(probes)[::10]:
        with av.open(path) as container:
            frames = list(container.decode(video=0))
        assert len(frames) == probes[path]["frames"] >= demo_faces.SAMPLED_FRAMES


def test_no_property_of_a_file_tells_its_kind(probes: dict[Path, dict]) -> None:
    """Not the least: three real files, byte counts included, for each fake of each kind."""
    for split in COUNTS:
        mixes = {kind: Counter() for kind in demo_faces.KINDS}
        for path, info in probes.items():
            if path.parts[-3] == split:
                mixes[kind_of(path)][tuple(info.values())] += 1
        for kind in demo_faces.KINDS[1:]:
            assert {recipe: 3 * number for recipe, number in mixes[kind].items()} == mixes["real"]


def test_the_audit_finds_no_shortcut(data_set: Path, tmp_path: Path) -> None:
    build(BuildRequest(data_set, tmp_path / "shards", BuildSettings(frames=2, size=8), workers=1))
    result = CliRunner().invoke(audit, ["--shards", str(tmp_path / "shards")])
    assert result.exit_code == 0, result.output
    assert "WARNING" not in result.output


@functools.cache
def gain_paths(kind: str, clips: int = 2500) -> np.ndarray:
    """Log gains in units of their standard deviation: (clips, 16, 3)."""
    rng = np.random.default_rng(1)
    return np.log([demo_faces.gains(rng, kind, 16) for _ in range(clips)]) / demo_faces.GAIN_STD


@pytest.mark.parametrize("kind", demo_faces.KINDS)
def test_a_single_frames_gain_has_the_same_law_in_every_kind(kind: str) -> None:
    paths = gain_paths(kind)
    for frame in (0, 5, 15):
        quantiles = np.quantile(paths[:, frame], [0.025, 0.16, 0.5, 0.84, 0.975])
        assert quantiles == pytest.approx([-1.96, -1, 0, 1, 1.96], abs=0.08)  # N(0, 1)


@pytest.mark.parametrize("kind", demo_faces.KINDS)
def test_the_mean_gain_of_a_clip_scatters_alike_in_every_kind(kind: str) -> None:
    assert gain_paths(kind).mean(axis=1).var() == pytest.approx(1 / 16, rel=0.08)


def test_time_tells_the_temporal_kinds() -> None:
    steps = {kind: np.diff(gain_paths(kind), axis=1).var() for kind in demo_faces.KINDS}
    assert steps["real"] < 0.4 and steps["spatial"] < 0.4
    assert steps["flicker"] == pytest.approx(2, rel=0.05) and steps["order"] > 1.8


def test_order_has_the_very_values_of_a_real_clip() -> None:
    real = demo_faces.gains(np.random.default_rng(3), "real", 16)
    order = demo_faces.gains(np.random.default_rng(3), "order", 16)
    assert not np.array_equal(order, real)
    assert sorted(map(tuple, order)) == sorted(map(tuple, real))


def test_only_spatial_fakes_lack_noise_in_the_face() -> None:
    def noise_ratio(kind: str, seed: int) -> float:
        frames = demo_faces.clip(np.random.default_rng(seed), kind, 16, 64, 64).astype(float)
        noise = np.abs(frames[:, :, 2:] - 2 * frames[:, :, 1:-1] + frames[:, :, :-2])
        return float(noise[:, 36:44, 24:40].mean() / noise[:, -6:].mean())

    ratios = {kind: np.median([noise_ratio(kind, seed) for seed in range(9)]) for kind in demo_faces.KINDS}
    assert ratios["spatial"] < 0.5 * ratios["real"]
    assert ratios["flicker"] == pytest.approx(ratios["real"], rel=0.2)
    assert ratios["order"] == pytest.approx(ratios["real"], rel=0.2)


def run_script(out_dir: Path, *options: str) -> str:
    result = CliRunner().invoke(maker.main, [str(out_dir), "--val", "0", "--test", "0", "--workers", "1", *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_same_data_set_is_reused_and_another_replaces_it(tmp_path: Path) -> None:
    assert "8 videos made" in run_script(tmp_path, "--train", "8")
    before = {path: path.read_bytes() for path in tmp_path.glob("train/*/*")}
    assert "8 videos reused" in run_script(tmp_path, "--train", "8")

    next(iter(before)).unlink()
    assert "8 videos made" in run_script(tmp_path, "--train", "8")
    assert {kind_of(path) for path in tmp_path.glob("train/*/*")} == set(demo_faces.KINDS)

    keep = tmp_path / "train" / "real" / "my_own_video.mp4"
    keep.write_bytes(b"not ours")
    assert "6 videos made" in run_script(tmp_path, "--train", "6", "--seed", "7")
    assert len(list(tmp_path.glob("train/*/*"))) == 6 + 1 and keep.is_file()


def test_the_same_seed_gives_the_same_pictures() -> None:
    clips = [demo_faces.clip(np.random.default_rng(seed), "flicker", 16, 64, 72) for seed in (5, 5, 6)]
    assert clips[0].shape == (16, 64, 72, 3) and clips[0].dtype == np.uint8
    assert np.array_equal(clips[0], clips[1]) and not np.array_equal(clips[0], clips[2])
