"""The fakes of the recipe's bench: each is its original but for the inner region, and names it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from shardify.sources.catalog import list_sources

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import recipe_faces


def mean(person, kind):
    """float (S, S, 3): over frames, which leaves little of the noise."""
    return recipe_faces.clip((0, person), kind).astype(float).mean(0)


@pytest.mark.parametrize("kind", recipe_faces.KINDS)
def test_a_fake_is_its_original_but_for_the_inner_region(kind):
    size = recipe_faces.PIXELS
    y, x = np.mgrid[:size, :size] / size - 0.5
    is_inner, is_border = np.hypot(x, y) < 0.12, np.maximum(abs(x), abs(y)) > 0.42
    changes = [np.abs(mean(person, kind) - mean(person, "real")) for person in range(12)]
    inner, border = (np.mean([change[where].mean() for change in changes]) for where in (is_inner, is_border))
    assert border < 2.5, "noise alone"
    assert inner > 2 * border


def test_the_manifest_names_originals_and_kinds(tmp_path):
    recipe_faces.make_videos(tmp_path / "videos", {"train": 1})  # a run that was stopped
    manifest = recipe_faces.make_videos(tmp_path / "videos", {"train": 2, "test": 1})
    catalog = list_sources(manifest.parent, manifest, "auto", None)
    assert len(json.loads((tmp_path / "videos/metadata.json").read_text())) == len(catalog.sources) == 15
    for source in catalog.sources:
        person, _, kind = source.source.removesuffix(".mp4").partition("_")
        assert (source.kind or "real", source.original) == (kind, "" if kind == "real" else f"{person}_real.mp4")
