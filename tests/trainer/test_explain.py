"""The page of what a model attends to: every clip with its frames, its sound where it has any, and the weights."""

import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from heads import add_side
from runs import ALONE, quick_results, run_small
from two_members import add_mel

from trainer.config.load import load_settings
from trainer.explain import main
from trainer.train import train

SMALL = (
    "model.name=multimodal", "epochs=1", "batch_size=8", "model.video.encoder=tiny", "model.audio.encoder=tiny",
    "model.fusion={width: 16, heads: 2, layers: 1}",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(shards_folder, tmp_path_factory):
    """A run on sound and frames; of test's eight clips, the last one is without sound."""
    folder = tmp_path_factory.mktemp("explain")
    shards = add_side(add_mel(shutil.copytree(shards_folder, folder / "shards"), absent=[35]))
    with quick_results():
        train(load_settings(None, SMALL), shards, folder / "run", ALONE, False)
    return folder / "run"


def call(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments), "--devices", "cpu"])


def test_the_page_shows_clips_sound_and_attention(run):
    """The shards are found by what the run's results say."""
    result = call("--run", run, "--clips", 3)
    assert result.exit_code == 0 and result.output.endswith("attention.html: 3 clips\n"), result.output
    page = (run / "results" / "attention.html").read_text()
    figures = page.split("<figure>")[1:]
    assert [figure.count('class="mel"') for figure in figures] == [1, 1, 0] and "no sound" in figures[2]
    assert all(figure.count("class: ") == figure.count("side: ") == 1 for figure in figures)
    for strip in re.findall(r'<div class="strip">(.*?)</div>', figures[0]):
        weights = np.array(re.findall(r'title="([\d.]+)%"', strip), float)
        assert len(weights) > 1 and 0 < weights.sum() <= 100.5 and "opacity:1.000" in strip


def test_shards_that_are_gone_and_models_that_attend_to_nothing(run, shards_folder, tmp_path):
    plain = tmp_path / "plain"
    run_small(shards_folder, plain, "epochs=1", "model.lstm_hidden=0")
    result = call("--run", plain, "--shards", shards_folder)
    assert result.exit_code == 1 and "shows no attention" in result.output
    moved = shutil.copytree(run, tmp_path / "moved")
    results = moved / "results" / "experiment_results.json"
    results.write_text(results.read_text().replace("/shards", "/gone"))
    result = call("--run", moved)
    assert result.exit_code == 2 and "pass its place with --shards" in result.output
