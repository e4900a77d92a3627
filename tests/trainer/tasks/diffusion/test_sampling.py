"""Samples: what guidance asks the model, and that each follows from its own noise and class alone."""

import pytest
import torch

from trainer.errors import SettingsError
from trainer.tasks.diffusion.model import build_unet
from trainer.tasks.diffusion.sampling import SAMPLERS, guided, noise_of, sample
from trainer.tasks.diffusion.settings import DiffusionSettings

SETTINGS = DiffusionSettings(channels=[8, 16], timesteps=100)
SHAPE = (6, 4, 4)
LABELS = torch.tensor([0, 1, 2, 0, 1])
NOISE = torch.stack([noise_of(0, int(label), number, SHAPE) for number, label in enumerate(LABELS)])


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return build_unet(SETTINGS, 3, SHAPE).eval()


def draw(unet, labels=LABELS, noise=NOISE, steps=3, **options):
    return sample(unet, labels, noise, settings=SETTINGS, steps=steps, **options)


@pytest.fixture
def asked(unet):
    """The classes of every clip in each forward pass."""
    found = []
    hook = unet.register_forward_pre_hook(
        lambda _, args, kwargs: found.append(kwargs["class_labels"].tolist()), with_kwargs=True
    )
    yield found
    hook.remove()


def test_guidance_asks_once_with_the_class_once_without_or_both(unet, asked):
    for guidance, expected in ((1.0, [0, 1]), (0.0, [3, 3]), (2.0, [0, 1, 3, 3])):
        draw(unet, LABELS[:2], NOISE[:2], guidance=guidance)
        assert asked == [expected] * 3
        asked.clear()


def test_the_class_matters_unless_guidance_is_0(unet):
    other = (LABELS + 1) % 3
    assert torch.equal(draw(unet, guidance=0.0), draw(unet, other, guidance=0.0))
    for guidance in (1.0, 3.0):
        assert (
            (draw(unet, guidance=guidance) - draw(unet, other, guidance=guidance)).abs().amax((1, 2, 3)) > 1e-3
        ).all()


def test_guidance_lengthens_the_step_and_rescale_takes_its_deviation_back(unet):
    timestep = torch.tensor(50)
    with torch.inference_mode():
        with_label, without, twice, rescaled = (
            guided(unet, NOISE, timestep, LABELS, guidance, rescale)
            for guidance, rescale in ((1.0, 0.0), (0.0, 0.0), (2.0, 0.0), (2.0, 1.0))
        )
    torch.testing.assert_close(twice, 2 * with_label - without, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rescaled.std((1, 2, 3)), with_label.std((1, 2, 3)))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_does_not_depend_on_what_is_sampled_with_it(unet, sampler):
    whole, *parts = (
        draw(unet, LABELS[part], NOISE[part], sampler=sampler, guidance=2.0)
        for part in (slice(5), slice(1), slice(1, 5))
    )
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-4, atol=1e-5)
    assert whole.isfinite().all() and len({float(one.sum()) for one in whole}) == 5


def test_samplers_differ(unet):
    ddim, ddpm, solver = (draw(unet, sampler=sampler) for sampler in SAMPLERS)
    assert not torch.allclose(ddim, ddpm, atol=1e-2) and not torch.allclose(ddim, solver, atol=1e-4)


@pytest.mark.parametrize("steps", [0, 101])
def test_steps_that_the_schedule_does_not_have(unet, steps):
    with pytest.raises(SettingsError, match=rf"steps is {steps}; it must lie between 1 and the 100"):
        draw(unet, steps=steps)


def test_latents_that_cannot_be_halved():
    with pytest.raises(SettingsError, match="has 4 levels, but latents of 4 × 4 cannot be halved 3 times; give fewer"):
        build_unet(DiffusionSettings(channels=[8, 8, 8, 8]), 3, SHAPE)


def test_the_documents_unet():
    unet = build_unet(DiffusionSettings(), 31, (4, 32, 32))
    assert sum(parameter.numel() for parameter in unet.parameters()) == pytest.approx(6.3e6, rel=0.01)
    attends = ["Attn" in name for name in unet.config.down_block_types]
    assert attends == [False, True, True] and unet.config.num_class_embeds == 32
