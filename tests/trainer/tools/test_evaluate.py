"""One model on several data sets: classes by name and meaning, clips and videos, kinds, and what is written."""

import csv
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from folders import FRAMES, SIZE, make_clips
from runs import quick_results
from sklearn.metrics import roc_auc_score

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.format.settings import BuildSettings
from trainer.config.load import load_settings
from trainer.errors import SettingsError
from trainer.evaluate import main as evaluate
from trainer.tools.evaluate import distinct_names

RESULTS = "results/experiment_results.json"
KINDS = {"real": ("",), "fake": ("swap", "swap", "reenact")}


def build_set(root, real, fake, split="test"):
    """Shards of two clips of each video in `root`/shards; fakes are of the two kinds in turn."""
    data = make_clips(root / "data", {f"test/{real}": 5, f"test/{fake}": 6}, frames=12)
    lines = ["path,class,split,kind"]
    for path in sorted(data.rglob("*.mkv")):
        kinds = KINDS["real" if path.parent.name == real else "fake"]
        kind = kinds[int(path.stem[-1]) % len(kinds)]
        lines.append(f"{path.relative_to(data)},{path.parent.name},{split},{kind}")
    (root / "videos.csv").write_text("\n".join(lines) + "\n")
    settings = BuildSettings(frames=FRAMES, size=SIZE, clips=2)
    build(BuildRequest(data, root / "shards", settings, manifest=root / "videos.csv", workers=1))
    return root / "shards"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two data sets whose classes have other names, and a model of mean colours that was trained elsewhere."""
    root = tmp_path_factory.mktemp("place")
    build_set(root / "ff", "real", "fake")
    build_set(root / "celeb", "Celeb-real", "Celeb-synthesis")
    settings = load_settings(None, ("batch_size=8",)).to_dict()
    settings["model"]["name"] = "runs:MeanColours"
    trained = BuildSettings(frames=FRAMES, size=SIZE, clips=2, fit="pad", faces=True)
    about = {"settings": settings, "classes": ["real", "fake"], "build": trained.to_dict(), "class_counts": [5, 5]}
    about |= {"frames": FRAMES, "size": SIZE, "stored_frames": FRAMES, "stored_size": SIZE}
    about |= {"threshold": 0.5, "video_threshold": 0.4, "temperature": 2.0}
    red_and_green = [-8 * 0.229, 8 * 0.224, 0.0]  # brightness, by which the classes differ, cancels out
    weights = {"head.weight": torch.tensor([[0.0] * 3, red_and_green]), "head.bias": torch.tensor([0.0, -0.232])}
    (root / "run/models").mkdir(parents=True)
    torch.save({"model": weights, **about}, root / "run/models/best_model.pth")
    return root


def call(place, *arguments, status=0):
    own = ("--run", place / "run", "--model", "runs:MeanColours", "--devices", "cpu")
    with quick_results():
        result = CliRunner().invoke(evaluate, [str(argument) for argument in (*own, *arguments)])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="module")
def both(place):
    """The output of one command on both data sets, and the folder of what it has written."""
    folders = ("--shards", place / "ff/shards", "--shards", place / "celeb/shards")
    return call(place, *folders, "--out", place / "out"), place / "out"


def test_clips_that_were_made_in_another_way_are_said(both):
    result, _ = both
    (line,) = [line for line in result.stderr.splitlines() if "celeb/shards: built with other options" in line]
    assert "(fit is stretch here and pad for the model, faces is False here and True for the model)" in line


def test_classes_are_matched_by_meaning_and_folders_named_apart(both):
    result, out = both
    assert "celeb/shards: class Celeb-synthesis is fake of the model" in result.stderr
    record = json.loads((out / "evaluation.json").read_text())
    assert list(record["data_sets"]) == ["ff/shards", "celeb/shards"] and record["classes"] == ["real", "fake"]
    for found in record["data_sets"].values():
        assert (found["split"], found["clips"], found["videos"]) == ("test", 22, 11)
        assert found["classes"]["fake"]["clips"] == 12


def test_figures_are_those_of_the_scores(both):
    """By scikit-learn and plain loops, of the table of scores."""
    _, out = both
    record = json.loads((out / "evaluation.json").read_text())
    with (out / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 44
    for name, found in record["data_sets"].items():
        own = [row for row in rows if row["data_set"] == name]
        videos = sorted({row["source"] for row in own})
        clips = [(int(row["label"]), float(row["score"]), row["source"]) for row in own]
        means = [
            (next(y for y, _, v in clips if v == video), np.mean([s for _, s, v in clips if v == video]), video)
            for video in videos
        ]
        for level, items, threshold in (("clip", clips, 0.5), ("video", means, 0.4)):
            labels, scores = (np.array(values) for values in list(zip(*items, strict=True))[:2])
            right = (scores >= threshold) == labels
            assert found[level]["accuracy"]["value"] == pytest.approx(right.mean())
            assert found[level]["auc"]["value"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
            kinds = [KINDS["fake"][int(v[-5]) % 3] if y else "" for y, _, v in items]
            areas = []
            for kind in ("reenact", "swap"):
                chosen = np.array([one in ("", kind) for one in kinds])
                areas.append(roc_auc_score(labels[chosen], scores[chosen]))
                measured = found["kinds"][kind][level]["auc"]
                assert measured["value"] == pytest.approx(areas[-1], abs=1e-6) and len(measured["interval"]) == 2
            assert found["kinds_mean"][level]["auc"]["value"] == pytest.approx(np.mean(areas), abs=1e-6)
    for level in ("clip", "video"):
        values = [found[level]["brier"]["value"] for found in record["data_sets"].values()]
        assert record["mean"][level]["brier"] == {"value": pytest.approx(np.mean(values)), "interval": None, "over": 2}


def test_tables_say_what_the_record_says(both):
    result, out = both
    record = json.loads((out / "evaluation.json").read_text())
    with (out / "evaluation.csv").open() as file:
        rows = {
            tuple(row[name] for name in ("data_set", "level", "kind", "figure")): row for row in csv.DictReader(file)
        }
    found = record["data_sets"]["celeb/shards"]
    for kind, levels in (("", found), ("swap", found["kinds"]["swap"])):
        row, expected = rows["celeb/shards", "video", kind, "eer"], levels["video"]["eer"]
        assert [float(row[name]) for name in ("value", "low", "high")] == [expected["value"], *expected["interval"]]
    assert float(rows["(mean)", "clip", "", "ap"]["value"]) == record["mean"]["clip"]["ap"]["value"]
    assert rows["ff/shards", "clip", "(mean)", "auc"]["low"] == ""
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["ff/shards,", "test:", "22", "clips", "of", "11", "videos;"] in [line[:7] for line in lines]
    by_videos = lines[lines.index(["All", "data", "sets,", "by", "videos"]) + 1 :]
    assert by_videos[3][:2] == ["mean", f"{record['mean']['video']['auc']['value']:.4f}"]


def test_temperature_is_reported_and_not_applied(both):
    result, out = both
    found = json.loads((out / "evaluation.json").read_text())["data_sets"]["ff/shards"]
    assert found["calibration"]["temperature"] == 2.0 and not found["calibration"]["is_applied"]
    assert found["calibration"]["before"]["brier"] == found["clip"]["brier"]["value"]
    assert found["calibration"]["after"]["brier"] != found["calibration"]["before"]["brier"]
    assert "temperature 2.000, fitted on validation (not applied" in result.stdout


def test_the_page_needs_no_other_file(both):
    _, out = both
    text = (out / "evaluation.html").read_text()
    assert text.count("<table>") == 2 + 2 * 3 and "All data sets, by videos" in text
    assert "celeb/shards, test: 22 clips of 11 videos; threshold 0.5000 of clips, 0.4000 of videos" in text
    assert 'src="data:image/png;base64,' in text and "<script" not in text and "http" not in text
    assert not (out / "robustness.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shards", "odd"), "odd: class Celeb-other is none of the model's (real, fake); say which one it is with"),
        (("--shards", "odd", "--map", "Celeb-other=forged"), "the model has no such class, only real, fake"),
        (("--shards", "odd", "--map", "other=fake"), "the shards have no class other, only Celeb-other, real"),
        (("--shards", "odd", "--map", "Celeb-other"), "Celeb-other: write NAME=VALUE, each name once"),
        (("--shards", "ff/shards", "--shards", "ff/../ff/shards"), "2 times; name each data set once"),
        (("--shards", "ff/shards", "--split", "val"), "has no val split; choose another with --split"),
    ],
)
def test_what_cannot_be_evaluated_is_said_first(place, monkeypatch, arguments, message):
    monkeypatch.chdir(place)
    if not (place / "odd").exists():
        data = make_clips(place / "odd_data", {"test/real": 1, "test/Celeb-other": 1}, frames=12)
        build(BuildRequest(data, place / "odd", BuildSettings(frames=FRAMES, size=SIZE), workers=1))
    status = 2 if ("--map" in arguments and "forged" not in arguments[-1]) or arguments.count("--shards") > 1 else 1
    result = call(place, *arguments, status=status)
    assert message in result.stderr and "Traceback" not in result.stderr


def test_the_user_says_what_a_class_is(place, monkeypatch):
    monkeypatch.chdir(place)
    result = call(place, "--shards", "celeb/shards", "--map", "Celeb-real=fake", "--map", "Celeb-synthesis=real")
    assert "class Celeb-real is fake of the model" in result.stderr


def test_names_of_folders_differ(tmp_path):
    folders = [tmp_path / name for name in ("a/x/shards", "b/x/shards", "c/shards", "d/other")]
    assert distinct_names(folders) == ["a/x/shards", "b/x/shards", "c/shards", "other"]
    assert distinct_names(folders[2:]) == ["shards", "other"]
    with pytest.raises(SettingsError, match="2 times"):
        distinct_names([tmp_path, tmp_path / "a" / ".."])


def test_clips_that_the_model_was_trained_on_are_said(place, tmp_path, caplog):
    build_set(tmp_path, "real", "fake", "train")
    results = place / "run" / RESULTS
    results.parent.mkdir()
    try:
        seen, gone, other = (str(path) for path in (tmp_path / "shards", tmp_path / "gone", place / "celeb/shards"))
        cases = ([seen], [], True), ([gone], [], False), ([other], [], False), ([gone], [seen], True)
        for folders, extra, expected in cases:
            joined = [{"folder": folder, "clips": 1} for folder in extra]
            results.write_text(json.dumps({"shards": {"folders": folders, "extra": joined}}))
            caplog.clear()
            call(place, "--shards", place / "ff/shards")
            assert ("22 of 22 clips of test are equal to train clips" in caplog.text) == expected
    finally:
        results.unlink()
