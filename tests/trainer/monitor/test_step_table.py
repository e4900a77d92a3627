"""The table of a run that counts in steps, where it is not as a run leaves it."""

from trainer.monitor.step_table import add_validation, read_table


def test_a_table_that_was_removed_begins_again_with_a_validation(tmp_path):
    add_validation(tmp_path, {"step": 8, "val_loss": 0.25, "epoch_seconds": 1.0})
    assert read_table(tmp_path) == [{"step": "8", "val_loss": "0.25"}]
