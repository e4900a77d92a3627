"""The page of the worst clips: which ones, in which order, readable without any other file."""

import base64
import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image
from two_members import add_mel

from shardify.format.members.frames import Frames
from shardify.format.records import Head
from trainer.config.load import load_settings
from trainer.evaluation import worst_clips
from trainer.evaluation.metrics import softmax
from trainer.evaluation.predictions import Predictions, source_rows
from trainer.evaluation.weighted import predict
from trainer.shards.shard_set import open_shards
from trainer.tasks import task_of
from trainer.tasks.classification.results import worst_first

TAGS = ("h1", "p", "main", "figure", "img", "figcaption", "span", "div", "i", "small", "br", "html")


def predictions_of(shards, wrong=(1, 6)):
    """Right by a little or a lot, but for the places in `wrong`."""
    numbers = shards.numbers("test")
    labels = shards.labels[numbers].astype(np.int64)
    margin = np.linspace(1, 3, len(numbers)) * np.where(np.isin(np.arange(len(numbers)), wrong), -1, 1)
    logits = np.stack([np.where(labels == 0, margin, 0), np.where(labels == 1, margin, 0)], 1).astype(np.float32)
    return Predictions(numbers, labels, logits, 0.5)


def write_page(shards, predictions, path, rows, loss="cross_entropy"):
    part = task_of(load_settings(None, (f"loss.name={loss}",))).report(predictions, shards.classes, None)
    worst_clips.write_worst_clips(shards, predictions.numbers, part.worst, rows, path, "<test>, 8 clips")
    return path.read_text(encoding="utf-8")


def page_of(folder, predictions, path, loss="cross_entropy"):
    shards = open_shards(folder)
    return write_page(shards, predictions, path, source_rows(shards), loss)


@pytest.mark.parametrize("codec", ["jpeg", "raw"])
def test_the_surest_mistakes_come_first(codec, shards_folder, raw_folder, tmp_path):
    folder = shards_folder if codec == "jpeg" else raw_folder
    shards = open_shards(folder)
    page = page_of(folder, predictions_of(shards), tmp_path / "run" / "results" / "worst_clips.html")
    numbers = shards.numbers("test")
    keys = re.findall(r'alt="([^"]+)"', page)
    expected = [6, 1, 0, 2, 3, 4, 5, 7]  # wrong by much, wrong by little, then right by ever more
    assert keys == [shards.key(numbers[i]) for i in expected]
    assert "<p>&lt;test&gt;, 8 clips. 2 of 8 clips are predicted wrongly. Wrong predictions come first" in page
    assert page.count('class="wrong"') == 2
    assert all(row["source"] in page for row in source_rows(shards).values() if row["key"] in keys)
    scores = softmax(predictions_of(shards).outputs)[expected, 1]
    assert re.findall(r"score of b: ([\d.]+)", page) == [f"{score:.3f}" for score in scores]
    assert not re.search(r'(src|href)="(?!data:)', page)
    for data in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page):
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert picture.shape == (32, 48, 3) and picture[:16].mean() > 30  # the class's brightness: 60 or 160
        assert (picture[20:28, 36:44] > 245).all(), "the sixth of five frames"


def test_at_most_so_many_and_names_are_escaped(own_shards, tmp_path, monkeypatch):
    monkeypatch.setattr(worst_clips, "MOST", 3)
    shards = open_shards(own_shards)
    rows = {key: row | {"source": "<script>.mp4"} for key, row in source_rows(shards).items()}
    path = tmp_path / "results" / "worst_clips.html"
    page = write_page(shards, predictions_of(shards, ()), path, rows)
    assert page.count("<figure>") == 3 and "No clip is predicted wrongly" in page
    assert "<script>" not in page and "&lt;script&gt;.mp4" in page


@pytest.mark.parametrize("wrong", [(), (0, 4)])
def test_names_of_classes_sources_and_the_run_are_text(shards_folder, tmp_path, wrong):
    """Whatever they hold: the page is opened in a browser."""
    shards = dataclasses.replace(
        open_shards(shards_folder), heads=[Head("class", ["<b>&a", "<script>alert(1)</script>"])]
    )
    rows = {key: row | {"source": "<img src=x onerror=y>.mp4"} for key, row in source_rows(shards).items()}
    path = tmp_path / "<i>run" / "results" / "worst_clips.html"
    page = write_page(shards, predictions_of(shards, wrong), path, rows)
    tags = set(re.findall(r"<(/?\w+)", page.partition("</style>")[2]))
    assert tags <= {f"{slash}{tag}" for slash in ("", "/") for tag in TAGS}
    assert "onerror=y>" not in page and page.count("&lt;img src=x onerror=y&gt;.mp4") == 8
    assert "<h1>&lt;i&gt;run: " in page and "&lt;b&gt;&amp;a, predicted" in page
    assert "score of &lt;script&gt;alert(1)&lt;/script&gt;: " in page


def test_a_damaged_clip_does_not_stop_the_report(own_shards, tmp_path):
    shards = open_shards(own_shards)
    found = predictions_of(shards)
    record = shards.samples[found.numbers[6]]
    with open(shards.shard(found.numbers[6]), "r+b") as file:
        file.seek(int(record["frames_offset"]) + 100)
        file.write(b"\0" * 50)
    page = page_of(own_shards, found, tmp_path / "worst.html")
    assert page.count("<figure>") == 8 and page.count('src="data:,"') == 1


def test_regression_shows_the_largest_errors(shards_folder, tmp_path):
    shards = open_shards(shards_folder)
    numbers = shards.numbers("test")
    errors = np.array([0.5, -4, 1, 0, 2, 0, 0, 0])
    found = Predictions(numbers, np.full(8, 10.0), (10 + errors)[:, None].astype(np.float32), 0.1)
    page = page_of(shards_folder, found, tmp_path / "worst.html", "mse")
    keys = re.findall(r'alt="([^"]+)"', page)
    assert keys[:3] == [shards.key(numbers[i]) for i in (1, 4, 2)]
    assert "target 10, predicted 6" in page and "width:50.0%" in page


@pytest.mark.parametrize(("size", "is_enlarged"), [(16, True), (120, False)])
def test_only_sheets_that_are_enlarged_keep_their_pixels(shards_folder, tmp_path, monkeypatch, size, is_enlarged):
    """5 frames of 16 px are a sheet 48 px wide, of 120 px one of 360, where the page's columns have 340."""
    monkeypatch.setattr(worst_clips, "_picture", lambda shards, number: "data:,")
    member = Frames(codec="jpeg", frames=5, size=size, cell=size)
    shards = dataclasses.replace(open_shards(shards_folder), members={"frames": member})
    page = write_page(shards, predictions_of(shards), tmp_path / "r" / "worst.html", {})
    assert page.count('<img class="enlarged"') == (8 if is_enlarged else 0)
    assert ".enlarged { image-rendering: pixelated }" in page


def test_what_the_threshold_makes_wrong_comes_before_what_it_makes_right():
    labels, scores = np.array([1, 0]), np.array([[0.7, 0.3], [0.75, 0.25]])
    assert worst_first(labels, scores, predict(scores, 0.2)).tolist() == [1, 0]
    assert worst_first(labels, scores, predict(scores, 0.5)).tolist() == [0, 1]


def test_the_spectrogram_stands_beneath_the_frames(shards_folder, own_shards, tmp_path):
    plain, heard = (
        Image.open(io.BytesIO(base64.b64decode(re.search(r"data:image/jpeg;base64,([^\"]+)", page)[1])))
        for page in (
            page_of(folder, predictions_of(open_shards(folder)), tmp_path / name / "results" / "worst_clips.html")
            for name, folder in (("plain", shards_folder), ("heard", add_mel(own_shards)))
        )
    )
    assert heard.size == (plain.width, plain.height + plain.width // 4)
    beneath = np.asarray(heard)[plain.height :]
    assert np.ptp(beneath) > 100 and np.ptp(beneath, axis=2).max() < 10, "in grey"
