"""Plots that compare data sets show what the arrays say."""

import warnings

import numpy as np
import pytest
from drawn import drawn, legend, texts
from matplotlib import font_manager
from PIL import Image
from scores import made_scores
from sklearn.metrics import roc_auc_score

from trainer.evaluation import plots
from trainer.evaluation.plots import fonts
from trainer.evaluation.predictions import Scored

LABELS, SCORES = made_scores(2, 60)
STRENGTHS = {0: {"clip": 0.5, "video": 0.9}, 2: {"clip": 0.4, "video": None}}


def test_a_curve_for_each_data_set(tmp_path):
    sets = {"_$a": Scored(LABELS, SCORES, LABELS, LABELS), "b": Scored(np.ones(60, int), SCORES, LABELS, LABELS)}
    (axis,) = drawn(plots.plot_rocs, sets, "videos")
    rates, hits = axis.get_lines()[0].get_data()
    assert np.trapezoid(hits, rates) == pytest.approx(roc_auc_score(LABELS, SCORES[:, 1]))
    area = f"{roc_auc_score(LABELS, SCORES[:, 1]):.3f}"
    lines = [f"_$a: AUC {area}, 60 videos", "b: undefined, all 60 videos are of one class", "chance"]
    assert [line.strip() for line in legend(axis)] == lines
    plots.plot_rocs(sets, "videos", tmp_path / "roc.png")
    assert np.asarray(Image.open(tmp_path / "roc.png").convert("L")).std() > 5


def test_a_line_for_each_data_set_and_a_gap_where_the_figure_is_undefined():
    named = {name: {"blur": STRENGTHS, "noise": STRENGTHS} for name in "ab"}
    axes = drawn(plots.plot_robustness, named, "auc", "video")
    assert [axis.get_xlabel() for axis in axes] == ["blur, σ in pixels", "noise, σ as a share of white"]
    x, y = axes[1].get_lines()[1].get_data()
    assert list(x) == [0, 2] and y[0] == 0.9 and np.isnan(y[1])
    (below,) = axes[0].figure.legends
    assert [line.strip() for line in texts(below.get_texts())] == ["a", "b"]
    assert axes[0].get_ylabel() == "auc, by videos"


def test_names_of_data_sets_in_any_script(monkeypatch):
    """Without a font that has them they are codes, and matplotlib has nothing to warn of."""
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    fonts.fonts_for.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (axis,) = drawn(plots.plot_rocs, {"真": Scored(LABELS, SCORES, LABELS, LABELS)}, "videos")
        first, _ = drawn(plots.plot_robustness, {"真": {"blur": STRENGTHS, "noise": STRENGTHS}}, "auc", "video")
    assert legend(axis)[0].startswith(" \\u771f: AUC")
    assert texts(first.figure.legends[0].get_texts()) == [" \\u771f"]
    fonts.fonts_for.cache_clear()
