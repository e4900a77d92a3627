"""Synthetic pictures: the same whatever they are made with, never of another autoencoder, and for training alone."""

import dataclasses
import json
import multiprocessing
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from latents import SIZE
from PIL import Image

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.format.index import read_index, read_rows
from shardify.format.settings import BuildSettings
from trainer.config.run_folder import hold_plain
from trainer.errors import SettingsError, TrainerError
from trainer.generate import main
from trainer.tools.synthetic.folder import PictureFolder
from trainer.tools.synthetic.generate import GenerateRequest, generate

STEPS = 4


@pytest.fixture
def request_of(run, pca):
    """Makes a request of few and quick pictures."""

    def make(**options):
        return GenerateRequest(**{"run": run, "vae": pca, "per_class": 5, "steps": STEPS, "devices": "cpu"} | options)

    return make


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pixels(folder: Path) -> dict[str, np.ndarray]:
    return {str(path.relative_to(folder)): np.asarray(Image.open(path)).astype(int) for path in folder.rglob("*.png")}


@pytest.fixture(scope="module")
def made(run, pca, tmp_path_factory):
    """Five pictures of each class. Not to be changed."""
    out = tmp_path_factory.mktemp("made") / "syn"
    generate(GenerateRequest(run=run, vae=pca, per_class=5, steps=STEPS, devices="cpu"), out)
    return out


def test_the_same_call_gives_the_same_bytes(made, request_of, tmp_path):
    assert generate(request_of(), tmp_path / "again") == 10
    assert tree(tmp_path / "again") == tree(made)
    assert {picture.shape for picture in pixels(made).values()} == {(SIZE, SIZE, 3)}
    assert len({picture.tobytes() for picture in pixels(made).values()}) == 10, "each has noise of its own"


def test_a_picture_depends_neither_on_the_batch_nor_on_the_count(made, request_of, tmp_path):
    generate(request_of(batch_size=3, per_class=6, classes=("b",)), tmp_path / "other")
    one, other = pixels(made), pixels(tmp_path / "other")
    shared = one.keys() & other.keys()
    assert len(shared) == 5 and len(other) == 6
    assert np.mean([np.abs(one[name] - other[name]) <= 2 for name in shared]) >= 0.999


def test_what_was_stopped_is_continued_to_the_same_tree(made, request_of, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    write, left = PictureFolder.write, []

    def write_some(folder, wanted, picture):
        if not left:
            folder.path(wanted).with_name(f".{folder.path(wanted).name}.tmp").write_bytes(b"half")
            raise Stopped
        left.pop()
        write(folder, wanted, picture)

    monkeypatch.setattr(PictureFolder, "write", write_some)
    for count in (1, 3, 2):
        left.extend([None] * count)
        with pytest.raises(Stopped):
            generate(request_of(), tmp_path / "syn")
    monkeypatch.undo()
    assert len(pixels(tmp_path / "syn")) == 6
    generate(request_of(), tmp_path / "syn")
    assert tree(tmp_path / "syn") == tree(made)


@pytest.mark.slow
def test_killed_anywhere_it_is_continued_to_the_same_tree(request_of, tmp_path):
    asked, out = request_of(per_class=50), tmp_path / "killed"
    generate(asked, tmp_path / "whole")
    rng, kills = np.random.default_rng(0), 0
    for most in np.sort(rng.integers(0, 96, 20)):
        process = multiprocessing.get_context("fork").Process(target=generate, args=(asked, out))
        process.start()
        while process.is_alive() and len(list(out.rglob("*.png"))) <= most:
            process.join(rng.uniform(0.001, 0.02))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills == 20
    generate(asked, out)
    assert tree(out) == tree(tmp_path / "whole")


@pytest.mark.slow
def test_batches_of_16_and_of_64(request_of, tmp_path):
    for size in (16, 64):
        generate(request_of(per_class=40, steps=50, batch_size=size), tmp_path / f"{size}")
    one, other = pixels(tmp_path / "16"), pixels(tmp_path / "64")
    assert one.keys() == other.keys() and len(one) == 80
    assert np.mean([np.abs(one[name] - other[name]) <= 2 for name in one]) >= 0.999


def test_more_pictures_leave_those_that_are_there(made, request_of, tmp_path):
    out = shutil.copytree(made, tmp_path / "syn")
    assert generate(request_of(per_class=7, classes=("a",)), out) == 12
    assert tree(made).items() - tree(out).items() == {("manifest.csv", tree(made)["manifest.csv"])}


@pytest.mark.parametrize("other", [{"seed": 1}, {"guidance": 2.0}, {"checkpoint": "4"}, {"sampler": "ddpm"}])
def test_other_options_give_other_pictures(made, request_of, other, tmp_path):
    generate(request_of(**other, per_class=1), tmp_path / "other")
    assert not {picture.tobytes() for picture in pixels(made).values()} & {
        picture.tobytes() for picture in pixels(tmp_path / "other").values()
    }
    with pytest.raises(SettingsError, match="made with another"):
        generate(request_of(**other), shutil.copytree(made, tmp_path / "syn"))


def test_the_record_says_what_made_them(made, run, pca):
    record = json.loads((made / "record.json").read_text())
    about = json.loads((run / "models" / "best" / "about.json").read_text())
    for name in ("step", "weights_sha256", "shards"):
        assert record[name] == about[name]
    assert record["vae"]["sha256"] == about["latent"]["vae"]["sha256"] and record["classes"] == ["a", "b"]
    expected = {"run": "run", "guidance": 1.0, "rescale": 0.0, "sampler": "ddim", "steps": STEPS, "seed": 0}
    assert {name: record[name] for name in expected} == expected


def test_they_are_built_into_train_alone(made, tmp_path):
    settings = BuildSettings(frames=1, size=SIZE, val_fraction=0.4, test_fraction=0.4)
    for name, manifest in (("listed", made / "manifest.csv"), ("found", None)):
        build(BuildRequest(made, tmp_path / name, settings, manifest=manifest, workers=1))
        assert read_index(tmp_path / name).splits() == ["train"]
        assert {row["kind"] for row in read_rows(tmp_path / name)} == {"synthetic"}


def test_another_autoencoder_is_refused(request_of, run, pca, tmp_path):
    for vae in (
        dataclasses.replace(pca, weights=None),
        dataclasses.replace(pca, input_range=(-1.0, 1.0)),
        dataclasses.replace(pca, vae="latents:Mean", weights=None, options={}),
    ):
        with pytest.raises(SettingsError, match="--vae"):
            generate(request_of(vae=vae), tmp_path / "syn")
    assert not (tmp_path / "syn").exists()


def test_what_cannot_be_made_is_refused_before_anything_is_written(request_of, tmp_path):
    for options, words in (
        ({"classes": ("a", "c")}, "--classes c: .*known: a, b"),
        ({"steps": 1_000}, "steps is 1000; it must lie between 1 and the 100"),
        ({"checkpoint": "5"}, "no model of the checkpoint 5; it has best, last, 4"),
        ({"run": tmp_path}, "no diffusion model; pass the run's folder"),
    ):
        with pytest.raises(TrainerError, match=words):
            generate(request_of(**options), tmp_path / "syn")
    assert not (tmp_path / "syn").exists()


def test_the_command(run, pca, made, tmp_path):
    given = ["--run", run, "--vae", pca.vae, "--vae-weights", pca.weights, "--vae-options", json.dumps(pca.options)]
    given += ["--per-class", 5, "--steps", STEPS, "--devices", "cpu", "--out", tmp_path / "syn"]
    given = list(map(str, given))
    done = CliRunner().invoke(main, [*given, "--all"])
    assert done.exit_code == 0, done.output
    assert "syn: 10 pictures; next: shardify build" in done.output
    assert tree(tmp_path / "syn") == tree(made)
    with hold_plain(tmp_path / "syn"):
        busy = CliRunner().invoke(main, [*given, "--all"])
    assert busy.exit_code == 4 and "syn: another process is writing here; wait for it to end" in busy.output
    for choice in ([], ["--all", "--classes", "a"]):
        refused = CliRunner().invoke(main, [*given, *choice])
        assert refused.exit_code == 2 and "pass either --all or --classes" in refused.output


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--guidance", "inf", "inf is no finite number"),
        ("--rescale", "nan", "nan is no finite number"),
        ("--devices", "2", "'2' is not one of 'auto', 'cpu'"),
    ],
)
def test_values_that_are_none(option, value, words):
    refused = CliRunner().invoke(main, ["--run", "r", "--vae", "v", "--out", "o", "--all", option, value])
    assert refused.exit_code == 2 and words in refused.output
