"""A raw file's scores are those of its clip in the shards, sound included; an exported model's are the run's."""

import csv

import numpy as np
import pytest
import torch
from runs import ALONE, run_multimodal
from sound import click_at, sounding_video

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.format.settings import BuildSettings
from trainer.saved_model import load_saved
from trainer.shards.shard_set import open_shards
from trainer.tools.export import deployable, export
from trainer.tools.scoring import score
from trainer.tools.trained_model import load_model

FRAMES = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Videos whose clicks come early or late, their shards, and a run on them."""
    root = tmp_path_factory.mktemp("raw")
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for late in (0, 1):
            folder = root / "data" / split / ("late" if late else "early")
            folder.mkdir(parents=True)
            for number in range(count):
                moment = 0.3 + 0.6 * late + 0.01 * number
                sounding_video(folder / f"{split}{late}{number}.mkv", click_at(moment))
    settings = BuildSettings(
        frames=FRAMES, size=16, audio="auto", audio_mels=8, audio_columns=4 * FRAMES, audio_window=5.0, audio_hop=5.0,
        audio_low=1000.0,
    )  # fmt: skip
    assert build(BuildRequest(root / "data", root / "shards", settings, workers=2)).failed_inputs == 0
    run_multimodal(root / "shards", root / "run", "epochs=1", "batch_size=4")
    return root


def test_a_raw_files_score_is_its_shards_bitwise(made):
    saved = load_saved(made / "run", torch.device("cpu"))
    found = score(saved, "all", open_shards(made / "shards"), "test", ALONE)
    files = [made / "data" / found.rows[number]["source"] for number in found.predictions.numbers.tolist()]
    model = load_model(made / "run", device="cpu")
    of_files = model.predict(files)
    scores = saved.task.scores(found.predictions.outputs)
    assert [one.score for one in of_files] == scores[:, 1].tolist()
    silent = model.predict(np.zeros((FRAMES, 16, 16, 3), np.uint8))
    assert silent.score not in [one.score for one in of_files], "frames alone have no sound"
    rows = list(csv.DictReader((made / "run" / "results" / "test_predictions.csv").open()))
    assert [row["has_mel"] for row in rows] == ["True"] * len(files)


@pytest.mark.parametrize("kind", ["module", pytest.param("program", marks=pytest.mark.slow)])
def test_a_model_to_export_takes_clips_sound_and_whether_it_is_there(made, tmp_path, kind):
    program = deployable(load_saved(made / "run", torch.device("cpu")))
    if kind == "program":
        assert export(made / "run", "torch", tmp_path / "model.pt2") < 1e-5
        program = torch.export.load(tmp_path / "model.pt2").module()
    clips = torch.randint(0, 256, (2, FRAMES, 3, 16, 16), dtype=torch.uint8)
    absent = torch.tensor([True, False])
    found = [
        program(clips, torch.full((2, 1, 8, 4 * FRAMES), value, dtype=torch.float16), absent)[0] for value in (0, 1)
    ]
    assert torch.equal(found[0][1], found[1][1]) and not torch.equal(found[0][0], found[1][0])
