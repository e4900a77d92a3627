"""What goes wrong in a run of the task diffusion, by the figures that its monitoring writes: a line with its remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trainer.engine.nonfinite import CHECK_STEPS, MOST_SKIPPED

LEAST_STD, MOST_STD = 0.8, 1.25  # of standardised latents; 1 where the statistics are their own
WITHIN = 5_000  # steps in which something is learned
FALL = 0.95  # of the first losses; above, nothing was learned
FIRST, LAST = 500, 1_000  # steps whose mean losses are compared
EVALUATIONS = 10  # of validation, in a row
RISES = 0.9  # rank correlation with time; 1 where each is above the one before
TIMES_CHANCE = 3.0
MOST_NEAR = 0.05
# Of the last 2 * CHECK_STEPS; a run that ends itself has as many at least, the start of float16 at most 10 at a look.
LEAST_SKIPPED = MOST_SKIPPED - CHECK_STEPS
LOSSES = "train_loss_probe", "val_loss_probe", "train_loss_fixed", "val_loss"  # training skips steps instead

Rows = Sequence[Mapping[str, float]]  # by name, in the order of steps; what was not measured is not there


def findings(rows: Rows, num_steps: int, num_classes: int) -> list[str]:
    """A line for each thing that goes wrong, none in a sound run.

    num_steps: of the whole run. num_classes: 0 where they are not known yet.
    """
    found = [
        _skipped(rows) or _not_finite(rows),
        _other_std(rows),
        _no_fall(rows),
        _memorising(rows),
        _no_agreement(rows, num_steps, num_classes),
        _near_neighbours(rows),
    ]
    return [line for line in found if line]


def measured(rows: Rows, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps at which a figure was measured, int64 (N,), and its values, float64 (N,)."""
    pairs = [(row["step"], row[name]) for row in rows if name in row]
    steps, values = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(steps, np.int64), np.array(values, np.float64)


def _skipped(rows: Rows) -> str | None:
    """By the newest rows: what was skipped long ago has passed."""
    steps, values = measured(rows, "skipped_steps")
    if not len(steps):
        return None
    count = int(values[steps > steps[-1] - 2 * CHECK_STEPS].sum())
    if count < LEAST_SKIPPED:
        return None
    return (
        f"the gradients were not finite in {count} of the steps up to {steps[-1]}, which did not count; after "
        f"{MOST_SKIPPED} in a row the run ends: start anew with a lower optimizer.lr, or with amp=float32"
    )


def _not_finite(rows: Rows) -> str | None:
    """By the newest figure of each of the losses; where steps are skipped as well, that says more."""
    for name in LOSSES:
        steps, values = measured(rows, name)
        if len(values) and not np.isfinite(values[-1]):
            return (
                f"{name} is {values[-1]} at step {steps[-1]}: start anew with a lower optimizer.lr, or with amp=float32"
            )
    return None


def _other_std(rows: Rows) -> str | None:
    """By the newest figure."""
    steps, values = measured(rows, "latent_std")
    if not len(values) or LEAST_STD <= values[-1] <= MOST_STD:
        return None
    return (
        f"the latents' standard deviation is {values[-1]:.3f} at step {steps[-1]}, not within {LEAST_STD} to "
        f"{MOST_STD}: the schedule fits 1; start anew with model.normalise=channel"
    )


def _no_fall(rows: Rows) -> str | None:
    steps, values = measured(rows, "loss")
    if not len(steps) or steps[-1] < WITHIN or steps[0] > FIRST:  # the table's begin may be gone
        return None
    before, now = values[steps <= FIRST].mean(), values[steps > steps[-1] - LAST].mean()
    if now < FALL * before:
        return None
    return (
        f"the loss has not fallen in {steps[-1]} steps ({before:.4f} at first, {now:.4f} now): look at the latents "
        f"with trainer.check_vae, and try another optimizer.lr"
    )


def _memorising(rows: Rows) -> str | None:
    """By validations: all of val, averaged weights. The few clips of `val_loss_probe` are for people to look at."""
    steps, values = measured(rows, "val_loss")
    if len(values) <= EVALUATIONS:
        return None
    recent, best = values[-EVALUATIONS:], int(np.argmin(values))
    ranks = np.argsort(np.argsort(recent))
    rises = np.corrcoef(ranks, np.arange(EVALUATIONS))[0, 1] >= RISES
    if not rises or best >= len(values) - EVALUATIONS:
        return None
    return (
        f"validation's loss has been rising for {EVALUATIONS} evaluations, to {recent[-1]:.4f} from {values[best]:.4f} "
        f"at step {steps[best]}: the model learns the train pictures by heart; end here, and generate from a "
        f"checkpoint near that step"
    )


def _no_agreement(rows: Rows, num_steps: int, num_classes: int) -> str | None:
    steps, values = measured(rows, "sample_agreement")
    if not len(values) or not num_classes or steps[-1] <= num_steps / 3:
        return None
    _, real = measured(rows, "real_agreement")
    chance = 1 / num_classes
    least = min(TIMES_CHANCE * chance, (chance + 1) / 2)  # of few classes, three times chance is out of reach
    if values[-1] >= least or (len(real) and real[-1] < least):  # who cannot tell real ones cannot judge samples
        return None
    return (
        f"the samples' classes are the wanted ones in {values[-1]:.1%} at step {steps[-1]}, chance is {chance:.1%}: "
        f"look at the labels, and lower model.label_dropout if it is above 0.2"
    )


def _near_neighbours(rows: Rows) -> str | None:
    steps, values = measured(rows, "sample_near")
    if not len(values) or values[-1] <= MOST_NEAR:
        return None
    return (
        f"{values[-1]:.1%} of the samples at step {steps[-1]} are nearer to a train picture than real ones are: the "
        f"model copies; generate from an earlier checkpoint, or train on more data or a smaller model.channels"
    )
