"""Temperature scaling: fitted on validation, reported always, applied to every score where it is asked for."""

import numpy as np
import pytest
import torch
from runs import run_small
from scipy.special import softmax
from scores import made_scores

from trainer.config.load import load_settings
from trainer.errors import SettingsError
from trainer.evaluation.metrics import best_threshold
from trainer.evaluation.predictions import Predictions
from trainer.saved_model import read_best
from trainer.tasks import task_of

LABELS, SCORES = made_scores(2, 400)
OUTPUTS = (4 * np.log(SCORES)).astype(np.float32)  # four times too sure
VALIDATION = Predictions(np.arange(400), LABELS, OUTPUTS, 0.5)


@pytest.mark.parametrize("calibrate", ["true", "false"])
def test_every_score_is_calibrated_or_none(calibrate):
    task = task_of(load_settings(None, (f"calibrate={calibrate}",)))
    fitted = task.fit_scores(VALIDATION, np.arange(400))
    task.temperature = fitted["temperature"]
    used = task.temperature if calibrate == "true" else 1.0
    expected = softmax(OUTPUTS.astype(float) / used, axis=1)
    assert task.scores(OUTPUTS) == pytest.approx(expected, abs=1e-6)
    assert fitted["threshold"] == fitted["video_threshold"] == pytest.approx(best_threshold(LABELS, expected), abs=1e-6)
    scores, predictions = task.scores_and_predictions(torch.from_numpy(OUTPUTS), fitted["threshold"])
    assert scores.numpy() == pytest.approx(expected, abs=1e-6)
    assert predictions.float().mean() == np.mean(expected[:, 1] >= fitted["threshold"])
    assert task.verdict(OUTPUTS[:2], ["a", "b"], 0.5).score == pytest.approx(expected[:2, 1].mean(), abs=1e-6)
    figures, found = task.figures(VALIDATION), task.calibration(VALIDATION)
    assert found["is_applied"] == (calibrate == "true")
    assert figures["brier"] == pytest.approx(found["after" if found["is_applied"] else "before"]["brier"], abs=1e-6)
    assert found["after"]["brier"] < found["before"]["brier"]
    assert found["after"]["calibration_error"] < found["before"]["calibration_error"]


def test_values_are_not_calibrated():
    with pytest.raises(SettingsError, match=r"calibrate is true, but loss\.name=l1 learns targets"):
        task_of(load_settings(None, ("loss.name=l1", "calibrate=true")))


def test_a_run_says_where_validation_gives_no_temperature(shards_folder, tmp_path, caplog):
    run_small(shards_folder, tmp_path / "run", "model.name=runs:MeanColours", "optimizer.lr=1", "calibrate=true")
    (line,) = [message for message in caplog.messages if "scores stay as they are" in message]
    assert line.startswith("calibrate is true, but") and "its clips are all right" in line
    assert read_best(tmp_path / "run")["temperature"] == 1
