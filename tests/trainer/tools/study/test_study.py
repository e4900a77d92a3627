import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from buckets import make_bucket, moto_endpoint, put_folder, use_endpoint
from builds import run_build
from click.testing import CliRunner
from PIL import Image

from trainer.errors import SettingsError, TrainerError
from trainer.study import main
from trainer.tools.study.classifier import _batches
from trainer.tools.study.pictures import open_folders, read_pictures
from trainer.tools.study.study import StudyRequest, study

CLASSES, RECORDINGS = ("a", "b", "c"), {"train": 2, "val": 1, "test": 3}
OVERRIDES = ("model.backbone=tiny", "batch_size=8", "optimizer.lr=3e-3")
SMALL = (
    "--steps", "24", "--seeds", "2", "--per-class", "2", "--per-class", "9", "--devices", "cpu",
    *(f"--set={override}" for override in OVERRIDES),
)  # fmt: skip


def picture(rng, label):
    values = rng.normal(100, 40, (16, 16, 3))
    values[:, :, label] += 90
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Shards of real pictures, two of each recording; of copies of its train pictures; of others that are new."""
    root, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(0)
    tables = {name: ["path,class,group,split"] for name in ("real", "copies", "others")}
    for label, name in enumerate(CLASSES):
        for split, count in RECORDINGS.items():
            for i in range(2 * count):
                kinds = ("real", "copies", "others") if split == "train" else ("real",)
                shown = picture(rng, label)
                for kind in kinds:
                    path = root / kind / name / f"{split}-{i}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    (picture(rng, label) if kind == "others" else shown).save(path)
                    tables[kind].append(f"{name}/{path.name},{name},{kind}-{name}-{split}-{i // 2},{split}")
    for kind, rows in tables.items():
        (root / f"{kind}.csv").write_text("\n".join(rows))
        run_build(root / kind, root / "shards" / kind, manifest=root / f"{kind}.csv", frames=1, size=16, shard_size=64)
    return root


def run(made, out, *options, synthetic=("copies", "others")):
    folders = [part for name in synthetic for part in ("--synthetic", str(made / "shards" / name))]
    return CliRunner().invoke(
        main, ["--shards", str(made / "shards" / "real"), *folders, "--out", str(out), *SMALL, *options]
    )


@pytest.fixture(scope="module")
def done(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "study"
    result = run(made, out)
    assert result.exit_code == 0, result.output
    return out, result.output


def test_every_arm_has_its_figures(done):
    record = json.loads((done[0] / "study.json").read_text())
    assert list(record["arms"]) == [
        "real", "real_again",
        "synthetic@copies", "real+2_synthetic@copies", "synthetic@others", "real+2_synthetic@others",
    ]  # fmt: skip
    assert [arm["pictures"] for arm in record["arms"].values()] == [12, 12, 12, 18, 12, 18]
    real, other = record["arms"]["real"], record["arms"]["synthetic@others"]
    assert real["accuracy"] > 0.8 and real["interval"][0] <= real["accuracy"] <= real["interval"][1]
    assert real["difference"] == 0 and real["verdict"] is None
    assert other["difference"] == pytest.approx(other["accuracy"] - real["accuracy"])
    assert other["difference_interval"] and other["p_adjusted"] <= 1
    assert "no arm with 9 synthetic pictures of each class: a class of copies has 4 only" in done[1]


def test_the_control_has_other_seeds_and_takes_no_part_in_the_correction(done):
    arms = json.loads((done[0] / "study.json").read_text())["arms"]
    again = arms.pop("real_again")
    assert again["verdict"] == "no difference shown" and again["p_adjusted"] is None and again["p"] <= 1
    outputs = [np.load(done[0] / "arms" / name / "seed-0.npz")["outputs"] for name in ("real", "real_again")]
    assert not np.array_equal(*outputs)
    asked = [arm for arm in arms.values() if arm["verdict"]]
    least = min(asked, key=lambda arm: arm["p"])
    assert len(asked) == 4 and least["p_adjusted"] == pytest.approx(min(1, 4 * least["p"]))
    assert f"{again['p']:.4f} | no difference shown" in (done[0] / "study.md").read_text()


def test_without_val_nothing_is_called_best(made, tmp_path, caplog):
    rows = (made / "real.csv").read_text().splitlines()
    (tmp_path / "table.csv").write_text("\n".join(row for row in rows if not row.endswith(",val")))
    run_build(made / "real", tmp_path / "shards", manifest=tmp_path / "table.csv", frames=1, size=16)
    request = StudyRequest(
        shards=tmp_path / "shards", synthetic=(made / "shards" / "copies",), out=tmp_path / "study", seeds=1, steps=24,
        per_class=(), overrides=OVERRIDES, arms=("synthetic",), devices="cpu",
    )  # fmt: skip
    record = study(request)
    assert "has no val split; the weights after the last step are judged" in caplog.text
    assert "best on val" not in caplog.text and caplog.text.count(", after 24 steps (") == 2
    assert list(record["arms"]) == ["real", "synthetic"] and record["evaluations"] == 0
    assert record["arms"]["real"]["accuracy"] > 0.8 and "best_steps" not in record["arms"]["real"]
    assert list(record["similarity"]) == ["copies"] and record["similarity"]["copies"]["near_neighbours"] >= 0.95
    page = (tmp_path / "study" / "study.md").read_text()
    assert "nothing is called best" in page and "closest 1% of test" in page and "is val" not in page
    caplog.clear()
    assert study(request) == record and "after 24 steps" not in caplog.text, "what is done is read"
    by_val = dataclasses.replace(request, overrides=(*OVERRIDES, "scheduler={name: plateau}"))
    with pytest.raises(SettingsError, match=r"scheduler\.name is plateau, which goes by val, but "):
        study(by_val)


def test_copied_training_pictures_are_found_and_drawn(done):
    found = json.loads((done[0] / "study.json").read_text())["similarity"]
    assert found["copies"]["near_neighbours"] >= 0.95 > 0.2 >= found["others"]["near_neighbours"]
    assert found["copies"]["agreement"] > 0.9 and list(found) == ["real", "copies", "others"]
    sheet = np.asarray(Image.open(done[0] / "closest-copies.png")).astype(int)
    assert np.abs(sheet[:16, :16] - sheet[16:32, :16]).mean() < 3, "a copy above what it is a copy of"
    page = (done[0] / "study.md").read_text()
    assert "no difference shown" in page and "closest-copies.png" in page and "{" not in page


def test_what_is_done_is_not_done_again(made, done, tmp_path):
    out, _ = done
    before, times = (out / "study.json").read_bytes(), {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
    assert len(times) == 12
    (out / "arms" / "synthetic@copies" / "seed-1.npz").unlink()
    again = run(made, out)
    assert again.exit_code == 0 and again.output.count("best on val") == 1
    assert (out / "study.json").read_bytes() == before, "the same figures for the same seed"
    kept = {path for path in times if path.stat().st_mtime_ns == times[path]}
    assert len(kept) == 11
    other = run(made, out, "--set", "optimizer.lr=1e-2")
    assert other.exit_code == 1 and "was made with other settings" in other.output


def test_real_pictures_through_an_autoencoder_are_an_arm(made, done, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[4] / "scripts")
    out = shutil.copytree(done[0], tmp_path / "study")
    vae = ("--vae", "patch_pca:PatchPCA", "--vae-options", '{"channels": 1, "patch": 16}')  # one pixel of them is left
    result = run(made, out, *vae, "--arm", "real_vae", synthetic=())
    assert result.exit_code == 0, result.output
    record = json.loads((out / "study.json").read_text())
    assert list(record["arms"]) == ["real", "real_vae"] and record["arms"]["real_vae"]["pictures"] == 12
    assert record["arms"]["real_vae"]["accuracy"] < record["arms"]["real"]["accuracy"] - 0.1
    other = run(made, out, *vae[:3], '{"channels": 2, "patch": 16}', "--arm", "real_vae", synthetic=())
    assert other.exit_code == 1 and "real_vae/seed-0.npz: was made with other" in other.output


def test_what_cannot_be_studied_is_one_line(made, tmp_path):
    wrong = run(made, tmp_path / "a", "--arm", "real+3_synthetic", synthetic=("copies",))
    assert wrong.exit_code == 2 and "no such arm; known: real, real_again, synthetic, real+2_synthetic" in wrong.output
    pictures = CliRunner().invoke(
        main,
        ["--shards", str(made / "shards" / "real"), "--synthetic", str(made / "copies"), "--out", str(tmp_path / "b")],
    )
    assert pictures.exit_code == 1 and "shardify build" in pictures.output and "--frames 1 --size 16" in pictures.output
    epochs = run(made, tmp_path / "d", "--set", "epochs=3")
    assert epochs.exit_code == 2 and "--set epochs=3: a study does not have this setting" in epochs.output
    values = run(made, tmp_path / "e", "--set", "loss.name=mse")
    assert values.exit_code == 2 and "loss.name is mse; a study learns classes" in values.output
    of_nothing = run(made, tmp_path / "f", "--vae-range", "0..1")
    assert of_nothing.exit_code == 2 and "--vae-range is of an autoencoder, which --vae names" in of_nothing.output
    real_twice = run(made, tmp_path / "c", synthetic=("real",))
    assert (
        real_twice.exit_code == 1 and "has 6 pictures in val; synthetic ones are for train alone" in real_twice.output
    )


def test_synthetic_pictures_do_not_count_as_real_ones(made, tmp_path):
    head, *rows = (made / "real.csv").read_text().splitlines()
    marked = [f"{row},{'yes' if '-a-train-0,' in row else ''}" for row in rows]
    (tmp_path / "table.csv").write_text("\n".join([f"{head},synthetic", *marked]))
    run_build(made / "real", tmp_path / "shards", manifest=tmp_path / "table.csv", frames=1, size=16, shard_size=64)
    with pytest.raises(TrainerError, match=r"2 of its train pictures are marked as synthetic.* by --synthetic"):
        open_folders(tmp_path / "shards", ())


def test_every_arm_takes_whole_batches_of_whole_passes():
    batches = list(_batches(np.arange(100, 110), 4, 5, seed=1))
    assert [len(batch) for batch in batches] == [4] * 5
    assert sorted(np.concatenate(batches)[:10]) == sorted(np.concatenate(batches)[10:]) == list(range(100, 110))


def test_folders_in_a_bucket_are_the_folders_here(made, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    use_endpoint(monkeypatch, moto_endpoint())
    here = [made / "shards" / name for name in ("real", "others")]
    there = [Path(put_folder(folder, make_bucket(moto_endpoint()) / folder.name)) for folder in here]
    remote, local = (read_pictures(open_folders(real, (others,)), None) for real, others in (there, here))
    assert remote.values.equal(local.values)
