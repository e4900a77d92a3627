from pathlib import Path

import pytest

from shardify.sources.placement import is_moved
from shardify.sources.source import Source


@pytest.mark.parametrize(
    ("said", "packed", "settings", "expected"),
    [
        ("train", "train", {}, False),
        ("test", "train", {}, True),
        (None, "test", {}, False),
        ("train", "val", {"val_fraction": 0.1}, False),  # carved out of it
        ("train", "val", {"val_fraction": None, "test_fraction": 0.1}, True),
        ("test", "val", {"val_fraction": 0.1}, True),
    ],
)
def test_what_was_carved_out_of_train_is_not_moved(said, packed, settings, expected):
    assert is_moved(Source(Path(), "a.mp4", "x", said), {"split": packed}, settings) == expected
