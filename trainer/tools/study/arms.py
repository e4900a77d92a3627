"""The arms of the study: the training sets that are compared, each by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.errors import SettingsError

REAL = "real"  # with which all others are compared
CONTROL = "real_again"  # its second copy: what differs between the two is chance
OTHER_SEEDS = 1000  # the first seed of the control


@dataclass(frozen=True)
class Arm:
    """A training set: which pictures it is made of."""

    name: str
    real: bool = False  # those of train, as they are
    reconstructed: bool = False  # the same, encoded and decoded by the autoencoder
    folder: int | None = None  # the number of a synthetic folder
    per_class: int | None = None  # so many of its pictures of each class; None: all
    first_seed: int = 0  # of the classifiers; arms that are compared picture by picture start with the same


def list_arms(folders: Sequence[str], per_class: Sequence[int], has_vae: bool) -> dict[str, Arm]:
    """All arms that can be made, by name, the real one first.

    folders: names of the synthetic ones; of several, an arm's name ends with that of its folder. per_class: how many
    synthetic pictures of each class join the real ones.
    """
    arms = [Arm(REAL, real=True), Arm(CONTROL, real=True, first_seed=OTHER_SEEDS)]
    if has_vae:
        arms += [
            Arm("real_vae", reconstructed=True),
            Arm("real+real_vae", real=True, reconstructed=True),
        ]
    for number, folder in enumerate(folders):
        of = f"@{folder}" if len(folders) > 1 else ""
        arms.append(Arm(f"synthetic{of}", folder=number))
        arms += [Arm(f"real+{count}_synthetic{of}", real=True, folder=number, per_class=count) for count in per_class]
    return {arm.name: arm for arm in arms}


def choose_arms(arms: dict[str, Arm], wanted: Sequence[str]) -> list[Arm]:
    """The arms of these names and the real one; without names all. Raises SettingsError for one that there is not."""
    for name in wanted:
        if name not in arms:
            raise SettingsError(f"--arm {name}: there is no such arm; known: {', '.join(arms)}")
    return [arm for name, arm in arms.items() if not wanted or name in wanted or name == REAL]
