"""What all plots share: names as they are drawn, fonts that have them, captions."""

import warnings

import numpy as np
import pytest
from drawn import drawn, legend, texts
from matplotlib import font_manager
from matplotlib.text import Text
from PIL import Image

from trainer.evaluation import plots
from trainer.evaluation.metrics import softmax
from trainer.evaluation.plots import drawing, fonts
from trainer.evaluation.plots.drawing import percent

ODD = ["over_$5", "$1_to_$5", "_^{x}\\frac", "a\nb", r"\$ & %"]


@pytest.mark.parametrize(("num_classes", "only_one"), [(2, False), (2, True), (6, True)])
def test_pictures_of_any_number_of_classes(tmp_path, monkeypatch, num_classes, only_one):
    monkeypatch.setattr(drawing, "DPI", 40)  # larger ones take their time
    rng = np.random.default_rng(0)
    labels = np.zeros(40, int) if only_one else rng.integers(0, num_classes, 40)
    scores = softmax(rng.normal(size=(40, num_classes)))
    classes, threshold = [f"class {k}" for k in range(num_classes)], 0.3 if num_classes == 2 else None
    plots.plot_confusion(labels, scores.argmax(1), classes, tmp_path / "a" / "confusion.png")
    plots.plot_curves(labels, scores, classes, threshold, tmp_path / "a" / "curves.png")
    plots.plot_scores(labels, scores, classes, threshold, tmp_path / "a" / "scores.png")
    for path in (tmp_path / "a").iterdir():
        assert np.asarray(Image.open(path).convert("L")).std() > 5


def test_names_are_drawn_as_they_are():
    labels = np.arange(5).repeat(4)
    shown = [*ODD[:3], "a\\nb", ODD[4]]
    scores = softmax(np.random.default_rng(0).normal(size=(20, 5)))
    axes = drawn(plots.plot_confusion, labels, scores.argmax(1), ODD)
    assert texts(axes[0].get_xticklabels()) == texts(axes[0].get_yticklabels()) == shown
    for axis in drawn(plots.plot_curves, labels, scores, ODD, None):
        lines = {line.strip().rpartition("  ")[0] for line in legend(axis)}
        assert set(shown) <= lines
    axes = drawn(plots.plot_scores, labels, scores, ODD, None)
    assert [axis.get_title("left").startswith(f"{name}: 4 clips") for axis, name in zip(axes, shown, strict=True)]
    for axis in axes:
        assert not any(text.get_parse_math() for text in axis.findobj(Text) if "$" in str(text))


def test_a_caption_is_above_the_plot():
    axes = drawn(plots.plot_values, np.arange(9.0), np.arange(9.0), caption="test, 9 clips")
    (caption,) = axes[0].figure.texts
    assert caption.get_text() == "test, 9 clips"
    assert not any(caption.get_window_extent().overlaps(axis.get_tightbbox()) for axis in axes)


def test_characters_that_no_font_has_are_written_as_codes_and_said_once(monkeypatch, caplog):
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    fonts.fonts_for.cache_clear()
    labels = np.array([0, 1, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            axis = drawn(plots.plot_confusion, labels, labels, ["真", "伪"])[0]
    assert texts(axis.get_yticklabels()) == ["\\u771f", "\\u4f2a"]
    (message,) = caplog.messages
    assert "no installed font has 伪真" in message and "fonts-noto-cjk" in message
    fonts.fonts_for.cache_clear()


def test_an_installed_font_draws_what_matplotlibs_own_lacks(monkeypatch, caplog):
    """cmsy10, which comes with matplotlib, stands for a font of the machine: it has ↙, and we take it from DejaVu."""
    path = font_manager.findfont("cmsy10")
    (found,) = sorted(fonts._characters(path) - set(map(chr, range(0x250))))[:1]
    whole = fonts._characters
    monkeypatch.setattr(fonts, "_characters", lambda file: whole(file) - ({found} if "DejaVu" in file else set()))
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: ["/damaged.ttf", path])
    fonts.fonts_for.cache_clear()
    assert fonts.fonts_for(frozenset(f"a{found}")) == (["DejaVu Sans", "cmsy10"], frozenset())
    assert not caplog.messages
    fonts.fonts_for.cache_clear()


def test_shares_that_are_not_none_do_not_look_like_none():
    assert [percent(share) for share in (0, 1e-4, 0.006, 0.01, 0.5, 0.99, 0.999, 1)] == [
        "0%", "<1%", "<1%", "1%", "50%", "99%", ">99%", "100%",
    ]  # fmt: skip
