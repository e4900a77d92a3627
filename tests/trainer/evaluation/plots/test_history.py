"""The plot of the training history: what it marks, and where its axes begin."""

import pytest
from drawn import drawn, legend

from trainer.config.load import load_settings
from trainer.evaluation.plots import plot_history
from trainer.tasks import task_of

CLASSES, VALUES = (task_of(load_settings(None, (f"loss.name={loss}",))) for loss in ("cross_entropy", "mse"))


def row(epoch, task=CLASSES, **changes):
    return dict.fromkeys((*task.history_columns(), "lr"), 0.5) | {"epoch": epoch} | changes


def history_of(task, rows, metric, best_epoch=1):
    return drawn(plot_history, rows, task.history_curves(metric), task.metric_limits, best_epoch)


def test_the_highest_loss_has_room_above():
    rows = [row(1, train_loss=2.0, val_loss=1.99), row(2, train_loss=1.98, val_loss=1.97)]
    losses, _, rates = history_of(CLASSES, rows, "auc_roc")
    assert losses.get_ylim()[0] == 0 and 2.05 < losses.get_ylim()[1] < 2.3
    assert rates.get_ylim()[1] > 0.5


def test_one_outlier_does_not_flatten_the_rest():
    rows = [row(epoch, val_loss=90.0 if epoch == 3 else 0.4) for epoch in range(1, 13)]
    losses, *_ = history_of(CLASSES, rows, "auc_roc")
    assert losses.get_ylim()[1] < 1 and "above: up to 90" in legend(losses)
    assert [line.get_xdata().tolist() for line in losses.get_lines() if line.get_marker() == "^"] == [[3]]


def test_what_is_undefined_in_every_epoch_is_not_in_the_legend():
    _, others, _ = history_of(CLASSES, [row(1, val_auc_roc=None), row(2, val_auc_roc=None)], "loss")
    assert legend(others)[:2] == ["train accuracy", "validation accuracy"] and len(legend(others)) == 3
    assert others.get_title("left") == "Accuracy"


def test_errors_and_r2_do_not_share_an_axis():
    _, others, _ = history_of(VALUES, [row(1, VALUES)], "r2")
    assert legend(others)[:1] == ["validation R²"]


@pytest.mark.parametrize(("worst", "begins_at_0"), [(9.0, True), (-3.0, False)])
def test_errors_begin_at_0_and_what_is_negative_is_seen(worst, begins_at_0):
    metric = "mae" if begins_at_0 else "r2"
    _, others, _ = history_of(VALUES, [row(1, VALUES, **{f"val_{metric}": worst}), row(2, VALUES)], metric)
    assert (others.get_ylim()[0] == 0) == begins_at_0
    assert others.get_ylim()[0] < worst < others.get_ylim()[1]


def test_the_best_epoch_is_marked_and_every_figure_has_its_colour():
    rows = [row(epoch) for epoch in range(1, 9)]
    axes = history_of(CLASSES, rows, "auc_roc", best_epoch=5)
    for axis in axes:
        assert any(list(line.get_xdata()) == [5, 5] for line in axis.get_lines())
    assert "best epoch: 5" in legend(axes[0])
    curves = [line for line in axes[1].get_lines() if len(line.get_xdata()) == 8]
    assert len({line.get_color() for line in curves}) == len(curves) == 3


def test_many_epochs_have_no_markers():
    for epochs, marker in ((50, "."), (51, "None")):
        losses, *_ = history_of(CLASSES, [row(epoch) for epoch in range(1, epochs + 1)], "auc_roc")
        assert {line.get_marker() for line in losses.get_lines() if len(line.get_xdata()) == epochs} == {marker}
