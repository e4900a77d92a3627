"""Pictures that compare data sets show what the arrays say."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scores import made_scores
from sklearn.metrics import roc_auc_score

from trainer.evaluation.comparison import plot_robustness, plot_rocs
from trainer.evaluation.predictions import Scored


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    found, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **options: (found.append(figure), save(figure, *args, **options))
    )
    return found


def texts(legend):
    return [text.get_text().strip() for text in legend.get_texts()]


def test_a_curve_for_each_data_set(drawn, tmp_path):
    labels, scores = made_scores(2, 60)
    sets = {"_$a": Scored(labels, scores, labels, labels), "b": Scored(np.ones(60, int), scores, labels, labels)}
    plot_rocs(sets, "videos", tmp_path / "roc.png")
    (axis,) = drawn[0].axes
    rates, hits = axis.get_lines()[0].get_data()
    assert np.trapezoid(hits, rates) == pytest.approx(roc_auc_score(labels, scores[:, 1]))
    area = f"{roc_auc_score(labels, scores[:, 1]):.3f}"
    lines = [f"_$a: AUC {area}, 60 videos", "b: undefined, all 60 videos are of one class", "chance"]
    assert texts(axis.get_legend()) == lines
    assert np.asarray(Image.open(tmp_path / "roc.png").convert("L")).std() > 5


def test_a_line_for_each_data_set_and_a_gap_where_the_figure_is_undefined(drawn, tmp_path):
    strengths = {0: {"clip": 0.5, "video": 0.9}, 2: {"clip": 0.4, "video": None}}
    plot_robustness(
        {name: {"blur": strengths, "noise": strengths} for name in "ab"}, "auc", "video", tmp_path / "r.png"
    )
    assert [axis.get_xlabel() for axis in drawn[0].axes] == ["blur, σ in pixels", "noise, σ as a share of white"]
    x, y = drawn[0].axes[1].get_lines()[1].get_data()
    assert list(x) == [0, 2] and y[0] == 0.9 and np.isnan(y[1])
    assert texts(drawn[0].legends[0]) == ["a", "b"] and drawn[0].axes[0].get_ylabel() == "auc, by videos"
