"""The weights of timesteps: the formulas of min-SNR weighting, from the schedule's own definition."""

import math

import pytest

from trainer.tasks.diffusion.losses import loss_weights, signal_shares
from trainer.tasks.diffusion.settings import DiffusionSettings


def signal_of(timestep, timesteps=1000):
    """The product of 1 - beta up to a timestep of the cosine schedule (Nichol and Dhariwal, arXiv 2102.09672)."""

    def level(time):
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    product = 1.0
    for step in range(timestep + 1):
        product *= 1 - min(1 - level((step + 1) / timesteps) / level(step / timesteps), 0.999)
    return product


@pytest.mark.parametrize("timestep", [0, 500, 999])
@pytest.mark.parametrize("gamma", [5.0, 1.0])
def test_weights_are_the_formulas(timestep, gamma):
    ratio = signal_of(timestep) / (1 - signal_of(timestep))
    expected = {"noise": min(ratio, gamma) / ratio, "v": min(ratio, gamma) / (ratio + 1)}
    for predict, weight in expected.items():
        found = loss_weights(DiffusionSettings(predict=predict, min_snr_gamma=gamma))
        assert len(found) == 1000 and float(found[timestep]) == pytest.approx(weight, abs=1e-6)


def test_without_gamma_every_timestep_weighs_the_same():
    assert (loss_weights(DiffusionSettings(min_snr_gamma=0)) == 1).all()


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("timesteps", [1000, 100])
def test_the_signal_falls_until_nearly_nothing_is_left(schedule, timesteps):
    signal = signal_shares(DiffusionSettings(schedule=schedule, timesteps=timesteps))
    assert (signal.diff() < 0).all() and signal[0] > 1 - 1 / timesteps and signal[-1] < 1e-4
