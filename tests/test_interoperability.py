"""Readers other than ours: stock webdataset, Hugging Face datasets and Megatron-Energon."""

import json
import shutil

import numpy as np
import pytest
from builds import unpack
from click.testing import CliRunner
from latents import COUNTS, PATCH, build_pictures, make_pictures
from media import numbered_video, read_number
from sound import sounding_video

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.format.members.frames import from_sheet
from shardify.format.settings import BuildSettings
from trainer.config.vae import VaeSpec
from trainer.shards.shard_set import open_shards
from trainer.tools.latents.encode import EncodeRequest, encode


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("interoperability")
    for split in ("train", "val"):
        for name in ("real", "fake"):
            (root / "data" / split / name).mkdir(parents=True)
            for i in range(3):
                numbered_video(root / "data" / split / name / f"{i}.mp4", 8, size=(64, 64))
    build(BuildRequest(root / "data", root / "shards", BuildSettings(frames=4, size=64, shard_size=2), workers=2))
    return root / "shards"


def test_webdataset_reads_sheets_labels_and_records(shards):
    import webdataset

    pattern = str(shards / "train-{000000..000002}.tar")
    clips = list(webdataset.WebDataset(pattern, shardshuffle=False).decode("rgb8").to_tuple("jpg", "cls", "json"))
    assert len(clips) == 6
    for picture, label, record in clips:
        frames = from_sheet(picture, 4)
        assert [read_number(frame) for frame in frames] == record["frame_index"] == [1, 3, 5, 7]
        assert label == record["label"] == ["real", "fake"].index(record["class"])


@pytest.mark.parametrize(
    ("call", "val"),  # the first guesses the splits from names, the second reads the card
    [({"path": "webdataset", "data_dir": "{shards}"}, "validation"), ({"path": "{shards}"}, "val")],
)
def test_hugging_face_reads_every_split(shards, tmp_path, call, val, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    call = {name: value.format(shards=shards) for name, value in call.items()}
    found = datasets.load_dataset(**call, cache_dir=str(tmp_path))
    assert {name: len(split) for name, split in found.items()} == {"train": 6, val: 6}
    clip = found["train"][0]
    assert np.asarray(clip["jpg"]).shape == (128, 128, 3)
    assert clip["json"]["label"] == int(clip["cls"])


@pytest.fixture(scope="module")
def with_sound(tmp_path_factory):
    """Three clips in one shard, the first without sound."""
    root = tmp_path_factory.mktemp("sound")
    (root / "data" / "train" / "one").mkdir(parents=True)
    (root / "data" / "train" / "two").mkdir()
    for number, name in enumerate(("one/a", "two/b", "one/c")):
        path = root / "data" / "train" / f"{name}.mkv"
        sounding_video(path) if number != SILENT else numbered_video(path, 30, size=(32, 32), codec="mpeg4")
    settings = BuildSettings(frames=4, size=32, audio="auto", audio_mels=8, audio_columns=16, audio_low=500.0)
    build(BuildRequest(root / "data", root / "shards", settings, workers=1))
    return root / "shards"


SILENT = 1  # the clip that comes first in the shard


def test_webdataset_reads_sound_and_its_absence_from_tars_and_unpacked_ones(with_sound, tmp_path):
    import webdataset

    url = str(with_sound / "train-000000.tar")
    clips = list(webdataset.WebDataset(url, shardshuffle=False).decode().to_tuple("__key__", "mel.npy", "json"))
    assert [record["has_audio"] for _, _, record in clips] == [False, True, True]
    folder = shutil.copytree(with_sound, tmp_path / "shards")
    unpack(folder)
    for key, mel, record in clips:
        assert (mel.shape, mel.dtype) == ((1, 8, 16), np.float16)
        assert (mel.max() > -20) == record["has_audio"]
        assert np.array_equal(np.load(folder / "train-000000" / f"{key}.mel.npy", allow_pickle=False), mel)


def test_hugging_face_reads_sound_where_the_first_clip_has_none(with_sound, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    clips = datasets.load_dataset(str(with_sound), cache_dir=str(tmp_path), split="train")
    mels = [np.asarray(clip["mel.npy"]) for clip in clips]
    assert [mel.shape for mel in mels] == [(1, 8, 16)] * 3
    assert [bool(mel.max() > -20) for mel in mels] == [False, True, True]
    assert [clip["json"]["has_audio"] for clip in clips] == [False, True, True]


@pytest.fixture(scope="module")
def with_latents(tmp_path_factory):
    """Pictures with their latents, by an autoencoder that takes means of patches."""
    root = tmp_path_factory.mktemp("latents")
    pictures = build_pictures(make_pictures(root / "data"), root / "shards")
    vae = VaeSpec(vae="latents:Mean", input_range=(0.0, 1.0))
    encode(EncodeRequest(shards=pictures, vae=vae, out=root / "latents", devices="cpu"))
    return root / "latents"


def test_webdataset_reads_latents_beside_their_pictures(with_latents):
    import webdataset

    pattern = str(with_latents / "train-{000000..000002}.tar")
    clips = list(webdataset.WebDataset(pattern, shardshuffle=False).decode("rgb8").to_tuple("jpg", "latent.npy"))
    assert len(clips) == 2 * COUNTS["train"]
    for picture, latent in clips:
        assert (latent.shape, latent.dtype) == ((6, 4, 4), np.float16)
        means = picture.reshape(4, PATCH, 4, PATCH, 3).mean((1, 3)) / 255
        assert np.abs(np.moveaxis(latent[:3], 0, -1) - means).max() < 1e-3


def test_hugging_face_reads_latents(with_latents, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset(str(with_latents), cache_dir=str(tmp_path))
    assert {name: len(split) for name, split in found.items()} == {name: 2 * count for name, count in COUNTS.items()}
    ours = open_shards(with_latents)
    numbers = {ours.key(number): number for number in ours.numbers("val")}
    for clip in found["val"]:
        (stored,) = ours.read(numbers[clip["__key__"]], ["latent"])
        assert np.array_equal(np.asarray(clip["latent.npy"], np.float16), ours.members["latent"].decode(stored))


def test_energon_prepares_and_reads_a_copy_that_stays_ours(shards, tmp_path):
    energon = pytest.importorskip("megatron.energon", reason="pip install megatron-energon")
    from megatron.energon.cli.main import main as energon_command

    folder = shutil.copytree(shards, tmp_path / "shards")
    parts = [part for split in ("train", "val") for part in ("--split-parts", f"{split}:{split}-.*")]
    fields = json.dumps({"image": "jpg", "label": "cls"})
    options = ["--non-interactive", "--no-progress", "--num-workers", "1", *parts]
    kind = ["--sample-type", "ImageClassificationSample", "--field-map", fields]
    done = CliRunner().invoke(energon_command, ["prepare", str(folder), *options, *kind])
    assert done.exit_code == 0, done.output
    config = energon.WorkerConfig(rank=0, world_size=1, num_workers=0)
    for split in ("train", "val"):
        part = energon.get_val_dataset(folder, split_part=split, worker_config=config, batch_size=1)
        read = {clip.__key__[0]: clip for clip in energon.get_loader(part)}
        ours = open_shards(folder)
        records = ours.samples[ours.numbers(split)]
        assert {key: clip.label for key, clip in read.items()} == {
            key.decode(): [label] for key, label in zip(records["key"], records["label_class"], strict=True)
        }
        for clip in read.values():
            picture = np.moveaxis((clip.image[0].numpy() * 255).round().astype(np.uint8), 0, -1)
            assert [read_number(frame) for frame in from_sheet(picture, 4)] == [1, 3, 5, 7]
