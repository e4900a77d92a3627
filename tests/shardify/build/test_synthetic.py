"""Synthetic pictures in a build: in train alone, wherever they lie, and never lost in silence."""

import shutil

import pytest
from builds import run_build, tree
from click.testing import CliRunner
from media import noisy_picture
from PIL import Image, PngImagePlugin

from shardify.build.request import Changes
from shardify.cli.main import main
from shardify.errors import UsageError
from shardify.format.index import read_index, read_rows
from shardify.format.synthetic import KEYWORD, MARK
from shardify.tools.info import describe
from shardify.tools.verify import verify_folder

PICTURES = {"frames": 1, "size": 16}


def save(path, number, mark=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    info = PngImagePlugin.PngInfo()
    if mark:
        info.add_text(KEYWORD, MARK)
    Image.fromarray(noisy_picture(number, 16, 16)).save(path, pnginfo=info)
    return path


def make_pictures(data, folders, count=6, mark=False, first=0):
    for place, folder in enumerate(folders):
        for number in range(count):
            save(data / folder / f"{'s' if mark else 'r'}{number}.png", first + 100 * place + number, mark)
    return data


def by_source(shards):
    return {row["source"]: row for row in read_rows(shards)}


def clips_of(rows, kind):
    return {row["split"] for row in rows.values() if row["status"] == "ok" and row["kind"] == kind}


def test_a_copy_in_test_is_a_failed_row(tmp_path):
    data = make_pictures(tmp_path / "data", ["train/a", "train/b", "val/a", "val/b", "test/a", "test/b"], 2)
    copied = save(data / "train/a/new.png", 900, mark=True)
    shutil.copy(copied, data / "test/a/renamed.png")
    shutil.copy(copied, data / "val/a/again.png")
    report = run_build(data, tmp_path / "s", **PICTURES)
    assert (report.ok_inputs, report.failed_inputs) == (13, 2)
    rows = by_source(tmp_path / "s")
    for source, split in (("test/a/renamed.png", "test"), ("val/a/again.png", "val")):
        assert (rows[source]["status"], rows[source]["split"], rows[source]["class"]) == ("failed", split, "a")
        assert rows[source]["error"].startswith(f"is synthetic, and {split} is for real ones alone")
    assert rows["train/a/new.png"]["kind"] == "synthetic" and clips_of(rows, "synthetic") == {"train"}
    assert read_index(tmp_path / "s").meta["generated"] is True
    assert describe(tmp_path / "s")["synthetic"] == 1
    assert verify_folder(tmp_path / "s", 1) == []
    assert "made by a model" in (tmp_path / "s" / "README.md").read_text()
    assert "1 clips are synthetic" in CliRunner().invoke(main, ["info", str(tmp_path / "s")]).output


def test_drawn_splits_have_them_in_train_alone(tmp_path, caplog):
    data = make_pictures(make_pictures(tmp_path / "data", "ab", 12), "ab", 12, mark=True, first=1000)
    caplog.set_level("INFO")
    run_build(data, tmp_path / "s", **PICTURES, val_fraction=0.4, test_fraction=0.4)
    rows = by_source(tmp_path / "s")
    assert clips_of(rows, "synthetic") == {"train"}
    assert clips_of(rows, "") == {"train", "val", "test"}
    assert "24 inputs are synthetic" in caplog.text
    before = tree(tmp_path / "s")
    run_build(data, tmp_path / "s", **PICTURES, val_fraction=0.4, test_fraction=0.4)
    assert tree(tmp_path / "s") == before
    save(data / "a/s90.png", 5000, mark=True)
    run_build(data, tmp_path / "s", **PICTURES, val_fraction=0.4, test_fraction=0.4)
    assert clips_of(by_source(tmp_path / "s"), "synthetic") == {"train"}
    assert all(by_source(tmp_path / "s")[name] == row for name, row in rows.items())


def test_they_are_not_carved_out_of_train(tmp_path):
    data = make_pictures(make_pictures(tmp_path / "data", ["train/a", "train/b"]), ["train/a", "train/b"], 9, True, 50)
    run_build(data, tmp_path / "s", **PICTURES, val_fraction=0.5)
    rows = by_source(tmp_path / "s")
    assert (clips_of(rows, "synthetic"), clips_of(rows, "")) == ({"train"}, {"train", "val"})


def test_a_picture_that_becomes_synthetic_leaves_its_drawn_split(tmp_path):
    data = make_pictures(tmp_path / "data", "ab", 12)
    run_build(data, tmp_path / "s", **PICTURES, val_fraction=0.4)
    name = next(source for source, row in by_source(tmp_path / "s").items() if row["split"] == "val")
    save(data / name, 7000, mark=True)
    run_build(data, tmp_path / "s", **PICTURES, val_fraction=0.4, changes=Changes(rebuild_changed=True))
    row = by_source(tmp_path / "s")[name]
    assert (row["kind"], row["split"], row["status"]) == ("synthetic", "train", "ok")


def test_a_group_of_the_manifest_follows_them_to_train_or_they_give_way(tmp_path):
    data = make_pictures(make_pictures(tmp_path / "data", "ab", 8), "ab", 1, mark=True, first=500)
    lines = ["path,class,split,group,synthetic"]
    for name in "ab":
        lines += [f"{name}/r{i}.png,{name},{'test' if i < 4 else 'train'},{name}{i},no" for i in range(8)]
    lines += ["a/s0.png,a,,a0,", "b/s0.png,b,,own,"]
    save(data / "a/unmarked.png", 800)
    save(data / "a/first.png", 810, mark=True)
    lines += ["a/unmarked.png,a,test,other,yes", "a/first.png,a,,a1,"]
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    run_build(data, tmp_path / "s", **PICTURES, manifest=tmp_path / "m.csv")
    rows = by_source(tmp_path / "s")
    assert rows["a/s0.png"]["error"].startswith("joins groups of test and train (a0")
    assert rows["a/first.png"]["error"].startswith("joins groups of test and train (a1")
    for name in ("a/r0.png", "a/r1.png"):
        assert (rows[name]["status"], rows[name]["split"]) == ("ok", "test")
    assert (rows["b/s0.png"]["status"], rows["b/s0.png"]["split"]) == ("ok", "train")
    assert rows["a/unmarked.png"]["error"].startswith("is synthetic, and test is for real ones alone")
    (tmp_path / "m.csv").write_text("path,class,synthetic\na/r0.png,a,maybe\nb/r0.png,b,\n")
    with pytest.raises(UsageError, match=r"row 2: synthetic is maybe; it must be yes, no or empty"):
        run_build(data, tmp_path / "other", **PICTURES, manifest=tmp_path / "m.csv")


def test_the_kind_of_the_mark_is_no_word_for_others(tmp_path):
    data = make_pictures(make_pictures(tmp_path / "data", "ab", 2), "a", 1, mark=True, first=500)
    table, names = tmp_path / "m.csv", ["a/r0.png", "a/r1.png", "a/s0.png", "b/r0.png", "b/r1.png"]
    lines = [f"{name},{name[0]},{'synthetic' if name.startswith('a') else ''}," for name in names]
    table.write_text("\n".join(["path,class,kind,synthetic", *lines]))
    with pytest.raises(UsageError, match=r"a/r0\.png: its kind is synthetic, .* in the manifest's column synthetic"):
        run_build(data, tmp_path / "s", **PICTURES, manifest=table)
    table.write_text(table.read_text().replace("r1.png,a,synthetic,", "r1.png,a,synthetic,yes").replace(
        "r0.png,a,synthetic", "r0.png,a,drawn"))  # fmt: skip
    run_build(data, tmp_path / "s", **PICTURES, manifest=table)
    rows = by_source(tmp_path / "s")
    assert [rows[name]["kind"] for name in names] == ["drawn", "synthetic", "synthetic", "", ""]
    table.write_text(table.read_text().replace("drawn", "synthetic"))
    run_build(data, tmp_path / "s", **PICTURES, manifest=table)  # what is packed is left alone


def test_a_kind_of_the_manifest_is_no_change_of_a_marked_picture(tmp_path, caplog):
    data = make_pictures(make_pictures(tmp_path / "data", "ab", 3), "ab", 1, mark=True, first=500)
    names = [f"{name}/{stem}" for name in "ab" for stem in ("r0.png", "r1.png", "r2.png", "s0.png")]
    (tmp_path / "m.csv").write_text("path,class,kind\n" + "".join(f"{name},{name[0]},ddpm\n" for name in names))
    run_build(data, tmp_path / "s", **PICTURES, manifest=tmp_path / "m.csv")
    assert by_source(tmp_path / "s")["a/s0.png"]["kind"] == "synthetic"
    caplog.set_level("INFO")
    run_build(data, tmp_path / "s", **PICTURES, manifest=tmp_path / "m.csv")
    assert "changed" not in caplog.text
