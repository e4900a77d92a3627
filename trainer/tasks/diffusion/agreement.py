"""Whether samples look like the classes that they were asked to be of, by a linear classifier of real latents."""

from __future__ import annotations

import numpy as np

COMPONENTS = 64  # of the latents, at most, that the classifier sees


def class_agreement(
    samples: np.ndarray, train: np.ndarray, train_labels: np.ndarray, val: np.ndarray, val_labels: np.ndarray
) -> dict[str, float]:
    """`sample_agreement`, the share of samples that are taken for their own class, and `real_agreement`, that of val.

    samples: (K, P, …), P of each of the first K classes; train, val: (N, …); labels: int (N,). The classifier is linear
    discriminant analysis of the principal components of train, fitted in a second; `real_agreement` says what it is
    worth. Empty where there are too few latents of train to fit one.
    """
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline

    flat, num_classes = train.reshape(len(train), -1), len(np.unique(train_labels))
    components = min(COMPONENTS, flat.shape[1], len(train) // 4)  # fewer than latents, so that their spread is known
    if num_classes < 2 or components < 1:
        return {}
    judge = make_pipeline(PCA(components, random_state=0), LinearDiscriminantAnalysis())
    judge.fit(flat, train_labels)
    wanted = np.repeat(np.arange(len(samples)), samples.shape[1])
    found = judge.predict(samples.reshape(len(wanted), -1))
    figures = {"sample_agreement": float((found == wanted).mean())}
    if len(val):
        figures["real_agreement"] = float((judge.predict(val.reshape(len(val), -1)) == val_labels).mean())
    return figures
