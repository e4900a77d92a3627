"""The README's picture, of what scripts/demo has left in runs/: python scripts/readme_picture.py [FOLDER] [OUT]"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from demo_report import KINDS, auc, read_scores
from PIL import Image
from sklearn.metrics import roc_curve

MODELS = {"demo": ("whole model", "#1b7f79"), "demo-frame-only": ("single frames", "#c0792b")}


def draw_roc(axes: plt.Axes, runs: Path) -> None:
    """The ROC curves of both models on all kinds of fakes against the real clips of test."""
    for name, (label, colour) in MODELS.items():
        scores = read_scores(runs / name)
        real, fake = scores["real"], np.concatenate([scores[kind] for kind in KINDS])
        false_positives, true_positives, _ = roc_curve(np.arange(len(real) + len(fake)) >= len(real), [*real, *fake])
        axes.plot(false_positives, true_positives, color=colour, label=f"{label}: AUC {auc(real, fake):.3f}")
    axes.plot([0, 1], [0, 1], ":", color="grey")
    axes.set(title="ROC on test", xlabel="false positive rate", ylabel="true positive rate")
    axes.legend(loc="lower right", frameon=False)


def draw_scores(axes: plt.Axes, runs: Path) -> None:
    """The distribution of the whole model's scores, of real clips and of fakes."""
    scores = read_scores(runs / "demo")
    bins = np.linspace(0, 1, 31)
    axes.hist(scores["real"], bins, color="#888888", alpha=0.8, label="real")
    axes.hist(np.concatenate([scores[kind] for kind in KINDS]), bins, color="#c0392b", alpha=0.8, label="fake")
    axes.set(title="Scores on test, whole model", xlabel="score of fake", ylabel="clips", yscale="log")
    axes.legend(frameon=False)


def main(runs: Path, out: Path) -> None:
    plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    figure, (sheet, roc, scores) = plt.subplots(
        1, 3, figsize=(11, 3.4), width_ratios=(1.45, 1, 1), layout="constrained", facecolor="white"
    )
    sheet.imshow(Image.open(runs / "demo-preview.jpg"))
    sheet.set_axis_off()
    sheet.set_title("Clips of 16 frames, as the shards hold them")
    draw_roc(roc, runs)
    draw_scores(scores, runs)
    figure.savefig(out, dpi=100, pil_kwargs={"quality": 82, "method": 6})
    print(f"{out}: {out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    folder, out = (*sys.argv[1:], *("runs", "docs/demo.webp")[len(sys.argv) - 1 :])
    main(Path(folder), Path(out))
