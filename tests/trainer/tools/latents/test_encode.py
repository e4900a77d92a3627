"""Folders with latents: what they hold, that they are the same however they came about, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from builds import reseal, tree, unpack
from click.testing import CliRunner
from latents import CHANNELS, PATCH, SIZE, make_pictures
from patch_pca import main as fit_patches
from PIL import Image

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.cli.main import main as shardify
from shardify.errors import UsageError
from shardify.format.index import read_index, read_rows
from shardify.format.settings import BuildSettings
from shardify.format.shard import ShardWriter
from shardify.tools.verify import verify_folder
from trainer.config.vae import VaeSpec
from trainer.data.loader import ClipLoader
from trainer.errors import FormatError, SettingsError
from trainer.models.autoencoders.load import load_vae
from trainer.shards.extra import add_extra
from trainer.shards.shard_set import open_shards
from trainer.tools.latents.encode import EncodeRequest, encode


def moments_of(folder, split):
    """(N, 2C, h, w), float16, of a split, read as training reads them."""
    loader = ClipLoader(folder, split, 7, members=["latent"], shuffle=False)
    return np.concatenate([values.numpy() for values, _ in loader])


def pictures_of(folder, split):
    """(N, 3, S, S), float32 in 0 to 1, of a split."""
    loader = ClipLoader(folder, split, 7, shuffle=False)
    return torch.cat([clips[:, 0] for clips, _ in loader]).float() / 255


def test_each_picture_has_the_moments_of_the_autoencoder(latents, pca):
    vae = load_vae(pca, torch.device("cpu"))
    for split in ("train", "val", "test"):
        mean, logvar = vae.moments(pictures_of(latents, split))
        found = moments_of(latents, split)
        assert found.shape[1:] == (2 * CHANNELS, SIZE // PATCH, SIZE // PATCH)
        assert np.abs(found[:, :CHANNELS] - mean.numpy()).max() < 2e-3  # float16
        assert (found[:, CHANNELS:] == logvar.numpy()).all()


def test_everything_else_stays_as_it_was(latents, pictures):
    old, new = read_index(pictures), read_index(latents)
    assert (latents / "samples.csv").read_bytes() == (pictures / "samples.csv").read_bytes()
    assert [path.name for path in sorted(latents.iterdir())] == [path.name for path in sorted(pictures.iterdir())]
    assert list(new.members) == ["frames", "latent"] and new.heads == old.heads
    for name in set(old.samples.dtype.names) - {"frames_offset"}:
        assert np.array_equal(old.samples[name], new.samples[name])
    before, after = open_shards(pictures), open_shards(latents)
    assert all(before.read(number) == after.read(number) for number in range(len(old.samples)))
    assert verify_folder(latents, 1) == []


def test_the_record_names_autoencoder_and_figures(latents, pictures, pca):
    about = read_index(latents).meta["members"]["latent"]
    assert about["shape"] == [2 * CHANNELS, SIZE // PATCH, SIZE // PATCH] and about["downsampling"] == PATCH
    assert about["vae"]["class"] == "patch_pca:PatchPCA" and about["vae"]["config"] == pca.options
    assert read_index(pictures).meta["sha256"]["samples.npy"] in about["vae"]["trained_on"]
    assert (about["batch"], about["device"], about["input_range"]) == (16, "cpu", [0, 1])
    vae = load_vae(pca, torch.device("cpu"))
    for split, figures in about["reconstruction"].items():
        images = pictures_of(pictures, split)
        lost = float((vae.decode(vae.moments(images)[0]) - images).square().mean())
        assert figures["mse"] == pytest.approx(lost, rel=0.01)
        assert figures["psnr"] == pytest.approx(-10 * np.log10(lost), abs=0.1)
    assert set(about["reconstruction"]) == {"train", "val", "test"}


def test_statistics_are_of_train_alone(latents, pca, tmp_path):
    about = read_index(latents).meta["members"]["latent"]
    means = moments_of(latents, "train")[:, :CHANNELS].astype(np.float64)
    assert about["count"] == len(means)
    assert about["mean"] == pytest.approx(means.mean((0, 2, 3)), abs=1e-3)
    assert about["std"] == pytest.approx(means.std((0, 2, 3)), abs=1e-3)
    assert (about["min"], about["max"]) == (means.min(), means.max())
    assert about["scaling_factor"] == pytest.approx(1 / means.std(), rel=1e-3)
    data = make_pictures(tmp_path / "data")
    Image.new("RGB", (SIZE, SIZE), "white").save(data / "test" / "a" / "00.png")
    build(BuildRequest(data, tmp_path / "shards", BuildSettings(frames=1, size=SIZE, shard_size=20), workers=1))
    encode(EncodeRequest(shards=tmp_path / "shards", vae=pca, out=tmp_path / "latents", devices="cpu"))
    other = read_index(tmp_path / "latents").meta["members"]["latent"]
    figures = ("count", "mean", "std", "posterior_std", "min", "max", "scaling_factor")
    assert [other[name] for name in figures] == [about[name] for name in figures]
    assert other["reconstruction"]["test"] != about["reconstruction"]["test"]


@pytest.mark.parametrize("stop_at", [0, 2])
def test_a_stopped_call_resumes_to_the_same_bytes(latents, pictures, pca, tmp_path, monkeypatch, caplog, stop_at):
    """Stopped where a shard is about to get its name, with other readers than before."""
    request = {"shards": pictures, "vae": pca, "out": tmp_path / "out", "devices": "cpu"}
    finished, finish = [], ShardWriter.finish

    def stop(writer, *arguments):
        if len(finished) == stop_at:
            raise KeyboardInterrupt
        finished.append(writer.name)
        return finish(writer, *arguments)

    monkeypatch.setattr(ShardWriter, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        encode(EncodeRequest(**request, workers=3))
    monkeypatch.undo()
    (tmp_path / "out" / ".train-000000.tar.0000.tmp").touch()  # as a killed process leaves one
    times = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in finished}
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    encode(EncodeRequest(**request, workers=1))
    assert asked == [torch.get_num_threads()]  # those that it began with
    assert tree(tmp_path / "out") == tree(latents)
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in finished} == times
    assert ("resuming" in caplog.text) == (stop_at > 0)
    encode(EncodeRequest(**request))
    assert "has these latents already" in caplog.text and tree(tmp_path / "out") == tree(latents)


def test_unpacked_shards_give_the_same_latents(latents, pictures, pca, tmp_path):
    unpack(shutil.copytree(pictures, tmp_path / "shards"))
    encode(EncodeRequest(shards=tmp_path / "shards", vae=pca, out=tmp_path / "out", devices="cpu"))
    assert tree(tmp_path / "out") == tree(latents)


def test_another_autoencoder_is_refused_where_latents_are_or_begin(latents, pictures, pca, tmp_path):
    before = tree(latents)
    other = VaeSpec(vae="latents:Mean")
    for out in (latents, tmp_path / "begun"):
        out.mkdir(exist_ok=True)
        if out != latents:
            about = read_index(latents).meta["members"]["latent"]
            (out / ".encode.json").write_text(json.dumps(about | {"threads": 1}))
        with pytest.raises(SettingsError, match="has latents of patch_pca:PatchPCA"):
            encode(EncodeRequest(shards=pictures, vae=other, out=out, devices="cpu"))
    assert tree(latents) == before
    inverted = VaeSpec(**{**vars(pca), "input_range": (-1.0, 1.0)})
    with pytest.raises(SettingsError, match="was encoded with input_range"):
        encode(EncodeRequest(shards=pictures, vae=inverted, out=latents, devices="cpu"))


@pytest.mark.parametrize(
    ("source", "out", "words"),
    [
        ("latents", "new", "has latents already"), ("pictures", "data", "holds .*, but no latents"),
        ("pictures", "pictures", "is a shards folder without latents"), ("remote", "new", "lies in object storage"),
        ("pictures", "remote", "lies in object storage"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_encoded_are_one_line(latents, pictures, pca, tmp_path, source, out, words):
    remote = Path("s3://bucket/shards")
    shards = {"latents": latents, "pictures": pictures, "remote": remote}[source]
    places = {"new": tmp_path / "new", "data": pictures.parent / "data", "pictures": pictures, "remote": remote}
    with pytest.raises((FormatError, SettingsError), match=words):
        encode(EncodeRequest(shards=shards, vae=pca, out=places[out], devices="cpu"))


def test_videos_are_refused(shards_folder, pca, tmp_path):
    with pytest.raises(FormatError, match=r"clips of 5 frames; latents are of pictures: build with --frames 1"):
        encode(EncodeRequest(shards=shards_folder, vae=pca, out=tmp_path / "out", devices="cpu"))


def test_values_that_are_not_finite_name_the_picture(pictures, tmp_path):
    spec = VaeSpec(vae="latents:Mean", options={"spoil": 0.93}, input_range=(0.0, 1.0))
    with pytest.raises(FormatError, match=r"/b/\d\d\.png: the autoencoder gives values .* not finite"):
        encode(EncodeRequest(shards=pictures, vae=spec, out=tmp_path / "out", devices="cpu"))
    assert not (tmp_path / "out" / "index.json").exists()


def test_a_damaged_picture_stops_it(pictures, pca, tmp_path):
    folder = shutil.copytree(pictures, tmp_path / "shards")
    shard = folder / "train-000001.tar"
    content = bytearray(shard.read_bytes())
    content[int(open_shards(folder).samples["frames_offset"][25]) + 40] ^= 1
    shard.write_bytes(content)
    with pytest.raises(FormatError, match=r"train-000001.tar: clip .*: jpg is damaged"):
        encode(EncodeRequest(shards=folder, vae=pca, out=tmp_path / "out", devices="cpu"))


def test_tables_that_do_not_agree_stop_it(pictures, pca, tmp_path):
    folder = shutil.copytree(pictures, tmp_path / "shards")
    rows = read_rows(folder)
    reseal(folder, rows=[*rows[:-1], rows[-1] | {"key": "another"}])
    with pytest.raises(FormatError, match="its tables do not agree"):
        encode(EncodeRequest(shards=folder, vae=pca, out=tmp_path / "out", devices="cpu"))


def test_every_flipped_bit_of_a_latent_is_found(latents, tmp_path):
    folder = shutil.copytree(latents, tmp_path / "latents")
    shard, sample = folder / "val-000000.tar", read_index(latents).samples
    (record, *_) = sample[sample["split"] == 1]
    sound = shard.read_bytes()
    first, length = int(record["latent_offset"]), int(record["latent_length"])
    for bit in np.random.default_rng(0).integers(0, 8 * length, 20).tolist():
        content = bytearray(sound)
        content[first + bit // 8] ^= 1 << bit % 8
        shard.write_bytes(content)
        (damage,) = verify_folder(folder, 1)
        assert damage.clip == record["key"].decode() and "latent" in damage.problem


def test_no_build_goes_on_in_the_folder(latents, pictures):
    settings = BuildSettings(frames=1, size=SIZE, shard_size=20)
    with pytest.raises(UsageError, match="have the member latent, which is added after a build"):
        build(BuildRequest(pictures.parent / "data", latents, settings, workers=1))


def test_info_and_preview_show_the_latents(latents, tmp_path):
    from click.testing import CliRunner

    done = CliRunner().invoke(shardify, ["info", str(latents)])
    assert done.exit_code == 0 and f"latents {CHANNELS} × 4 × 4 of pixels in 0 to 1, by patch_pca" in done.output
    done = CliRunner().invoke(shardify, ["preview", str(latents), "-o", str(tmp_path / "preview.png")])
    assert done.exit_code == 0 and Image.open(tmp_path / "preview.png").height > 6 * (SIZE + 4)


def test_a_note_without_threads_is_damaged(pictures, pca, tmp_path):
    (tmp_path / ".encode.json").write_text("{}")
    with pytest.raises(SettingsError, match=r"\.encode\.json: is damaged; remove"):
        encode(EncodeRequest(shards=pictures, vae=pca, out=tmp_path, devices="cpu"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--patch=2", "--channels=13"], "--channels is 13, but a patch has 12 numbers"),
        (["--patch=5"], "--patch is 5, which does not divide the 16 px of"),
    ],
)
def test_what_patches_cannot_be_is_one_line(pictures, tmp_path, options, words):
    done = CliRunner().invoke(fit_patches, [str(pictures), str(tmp_path / "pca.safetensors"), *options])
    assert done.exit_code == 2 and words in done.output


def test_folders_with_latents_are_not_mixed(latents, pictures, tmp_path):
    vae = VaeSpec(vae="latents:Mean", input_range=(0.0, 1.0))
    encode(EncodeRequest(shards=pictures, vae=vae, out=tmp_path / "other", devices="cpu"))
    for other in (tmp_path / "other", pictures):  # as data.extra, too
        with pytest.raises(FormatError, match=f"^{other}: does not go with {latents}: .*; build one folder of all"):
            add_extra(open_shards(latents), {"train": np.arange(1)}, [str(other)])
