"""The folder of synthetic pictures: names, marks, manifest, and what it may hold already."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from shardify.format.synthetic import is_synthetic
from trainer.errors import SettingsError
from trainer.tools.synthetic.folder import PictureFolder, Wanted, folder_names

CLASSES = ["walk", "run fast", "Größe"]
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


def opened(folder, seed=3, **record):
    return PictureFolder(folder, CLASSES, seed, {"run": "r", "seed": seed, **record})


def test_pictures_have_names_marks_and_a_row_each(tmp_path):
    pictures = opened(tmp_path / "syn")
    for label in range(3):
        pictures.write(Wanted(label, 7), PIXELS)
    names = ["walk/walk-s3-00007.png", "run fast/run fast-s3-00007.png", "Größe/Größe-s3-00007.png"]
    for name in names:
        path = tmp_path / "syn" / name
        assert np.array_equal(np.asarray(Image.open(path)), PIXELS)
        with open(path, "rb") as file:
            assert is_synthetic(file)
    (tmp_path / "syn" / "walk" / "mine.png").write_bytes(b"")
    assert pictures.finish() == 3
    with open(tmp_path / "syn" / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["class"]) for row in rows] == list(zip(names, CLASSES, strict=True))
    assert {(row["split"], row["synthetic"]) for row in rows} == {("train", "yes")}
    assert json.loads((tmp_path / "syn" / "record.json").read_text())["seed"] == 3


@pytest.mark.parametrize("name", ["a/b", ".hidden", "..", "A", "tab\t", "", "ö" * 101, "Record.json", "manifest.csv"])
def test_names_that_cannot_be_folders_are_numbers(name):
    assert folder_names(["a", name]) == ["class-0", "class-1"]


def test_a_folder_is_continued_by_the_same_record_alone(tmp_path):
    opened(tmp_path / "syn", guidance=1.0).write(Wanted(0, 0), PIXELS)
    left = tmp_path / "syn" / "walk" / ".walk-s3-00001.png.tmp"
    left.write_bytes(b"half")
    assert opened(tmp_path / "syn", guidance=1.0).path(Wanted(0, 0)).is_file()
    assert not left.exists()
    with pytest.raises(SettingsError, match="made with another guidance, sampler; pass the same, or another --out"):
        opened(tmp_path / "syn", guidance=2.0, sampler="ddpm")
    (tmp_path / "syn" / "record.json").write_text("{")
    with pytest.raises(SettingsError, match=r"record\.json, which is damaged"):
        opened(tmp_path / "syn", guidance=1.0)


def test_a_record_alone_binds_nothing(tmp_path):
    opened(tmp_path / "syn", seed=1)
    opened(tmp_path / "syn", seed=2).write(Wanted(0, 0), PIXELS)
    with pytest.raises(SettingsError, match="made with another seed"):
        opened(tmp_path / "syn", seed=1)


def test_the_longest_name_is_a_folder(tmp_path):
    pictures = PictureFolder(tmp_path / "syn", ["歩" * 66], 10**9, {})
    pictures.write(Wanted(0, 99_999), PIXELS)
    assert pictures.finish() == 1 and pictures.path(Wanted(0, 0)).parent.name == "歩" * 66


def test_another_folder_is_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.png").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"holds me\.png, but no record\.json"):
        opened(tmp_path / "photos")
