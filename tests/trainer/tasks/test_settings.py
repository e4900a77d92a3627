"""The loss asks for a task, and every task refuses settings that do not go with it."""

import pytest
from runs import run_small

from trainer.config.load import load_settings
from trainer.config.settings import LOSSES
from trainer.errors import SettingsError
from trainer.tasks import task_of
from trainer.tasks.classification.task import Classification
from trainer.tasks.regression.task import Regression


@pytest.mark.parametrize(
    ("losses", "task", "metric", "maximises"),
    [(("cross_entropy", "focal", "bce"), Classification, "auc_roc", True), (("mse", "l1"), Regression, "mae", False)],
)
def test_the_loss_asks_for_the_task(losses, task, metric, maximises):
    assert set(losses) <= set(LOSSES)
    for loss in losses:
        found = task_of(load_settings(None, (f"loss.name={loss}",)))
        assert type(found) is task
        assert found.shown_metric("auto") == found.shown_metric("loss") == metric
        assert found.maximises(metric) == maximises and not found.maximises("loss")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("loss={name: focal, alpha: 0.25, class_weights: true}",), "weighs the classes by loss.alpha=0.25 already"),
        (("metric=mae",), "metric is mae, which does not go with loss.name=cross_entropy; use auto, loss, auc_roc"),
        (("metric=auc",), "metric is auc, which does not go with loss.name=cross_entropy; use auto, loss, auc_roc"),
        (("loss.name=l1", "metric=auc_roc"), "metric is auc_roc, which does not go with loss.name=l1; use auto, loss"),
        (("data.balanced=true", "loss.class_weights=true"), "data.balanced and loss.class_weights both change"),
        (("data.weights=[1, 2]", "loss.class_weights=true"), "data.weights and loss.class_weights both change"),
        (("data.balanced=true", "loss={name: focal, alpha: 0.75}"), "data.balanced and loss.alpha both change"),
        (("data.balanced=true", "loss.name=l1"), "data.balanced is true, but loss.name=l1 learns targets, not classes"),
    ],
)
def test_settings_that_do_not_go_together(overrides, message):
    with pytest.raises(SettingsError) as caught:
        task_of(load_settings(None, overrides))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_checks_them_before_it_writes(shards_folder, tmp_path):
    with pytest.raises(SettingsError, match=r"metric is mae, which does not go with loss\.name=cross_entropy"):
        run_small(shards_folder, tmp_path / "run", "metric=mae")
    assert not (tmp_path / "run").exists()
