"""The figures of a run of diffusion as its monitoring writes them, made up: a sound run, and others."""

import math

import numpy as np

STEPS, CLASSES = 20_000, 12


def sound_run(until=STEPS):
    """A row for every 100 steps: the loss falls and then stays, with noise; validation's is measured every 500."""
    rng, rows = np.random.default_rng(0), []
    for step in range(100, until + 1, 100):
        level = 0.1 + 0.4 * math.exp(-step / 900)
        row = {"step": step, "loss": level + rng.normal(0, 0.01), "latent_std": 1.02, "skipped_steps": 0}
        if step % 500 == 0:
            row |= {"train_loss_fixed": level, "val_loss": level + 0.01 + rng.normal(0, 0.002)}
        if step % 2000 == 0:
            row |= {"sample_agreement": min(0.6, 0.05 + step / 20_000), "sample_near": 0.012}
        rows.append(row)
    return rows


def changed(name, value, since):
    """A sound run of which one figure is another; value: of the step, where it is a function."""
    rows = sound_run()
    for row in rows:
        if row["step"] >= since and name in row:
            row[name] = value(row["step"]) if callable(value) else value
    return rows
