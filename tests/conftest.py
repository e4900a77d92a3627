"""Real encoded clips and small shards folders, made once per test session by the project's own builder."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import pytest
from folders import LAYOUT, build_shards, make_clips

SLOW = ("test_distributed", "test_notebook", "test_kaggle_folder", "test_export", "test_gradient_checkpointing")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with the slowest tests come first, so that no process is alone with one at the end."""
    items.sort(key=lambda item: item.path.stem not in SLOW)


def pytest_configure() -> None:
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as the launcher does, for the forks of these processes
    gc.disable()  # for as long as modules are imported, which makes hundreds of thousands of objects that stay


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory) -> Path:
    """20 train, 8 val and 8 test videos of the classes a and b."""
    return make_clips(tmp_path_factory.mktemp("made") / "data", LAYOUT)


@pytest.fixture(scope="session")
def shards_folder(data_folder, tmp_path_factory) -> Path:
    """JPEG shards of `data_folder`, in 3 train, 1 val and 1 test tar. Not to be changed: copy it first."""
    return build_shards(data_folder, tmp_path_factory.mktemp("made") / "shards")


@pytest.fixture(scope="session")
def raw_folder(data_folder, tmp_path_factory) -> Path:
    """The same as raw shards."""
    return build_shards(data_folder, tmp_path_factory.mktemp("made") / "raw", codec="raw")


@pytest.fixture
def own_shards(shards_folder, tmp_path) -> Path:
    """A copy of `shards_folder` that a test may damage."""
    return shutil.copytree(shards_folder, tmp_path / "shards")
