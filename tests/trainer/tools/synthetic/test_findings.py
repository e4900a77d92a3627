"""The six things that are found to go wrong in a run of the task diffusion, and a sound run in which none is."""

import math

import pytest
from diffusion_figures import CLASSES, STEPS, changed, sound_run

from trainer.tools.synthetic.findings import findings


@pytest.mark.parametrize("until", [100, 400, 5_000, 7_000, STEPS])
def test_a_sound_run_has_none(until):
    assert findings(sound_run(until), STEPS, CLASSES) == []


def test_a_run_without_figures_has_none():
    assert findings([], STEPS, CLASSES) == []
    assert findings([{"step": 6_000}], STEPS, CLASSES) == []


@pytest.mark.parametrize(
    ("rows", "begins", "remedy"),
    [
        (changed("skipped_steps", 15, 20_000), "the gradients were not finite in 15 of the steps up to 20000", "lower"),
        (changed("latent_std", 0.179, 0), "the latents' standard deviation is 0.179", "model.normalise=channel"),
        (changed("latent_std", 1.3, 19_900), "the latents' standard deviation is 1.300", "0.8 to 1.25"),
        (changed("loss", 0.5, 0), "the loss has not fallen in 20000 steps (0.5000 at first", "trainer.check_vae"),
        (changed("val_loss", lambda step: 0.1 + step / 1e5, 15_000), "validation's loss has been rising", "end here"),
        (changed("sample_agreement", 0.2, 0), "the samples' classes are the wanted ones in 20.0%", "chance is 8.3%"),
        (changed("sample_near", 0.06, 20_000), "6.0% of the samples at step 20000", "an earlier checkpoint"),
    ],
)
def test_each_is_found_alone_with_its_remedy(rows, begins, remedy):
    (line,) = findings(rows, STEPS, CLASSES)
    assert line.startswith(begins) and remedy in line


@pytest.mark.parametrize("name", ["train_loss_probe", "val_loss_probe", "train_loss_fixed", "val_loss"])
def test_a_loss_that_is_not_finite_is_found_though_no_step_was_skipped(name):
    rows = sound_run()
    rows[-2][name] = math.inf
    rows[-1][name] = 0.1
    assert findings(rows, STEPS, CLASSES) == [], "it has passed"
    rows[-1][name] = math.nan
    (line,) = findings(rows, STEPS, CLASSES)
    assert line.startswith(f"{name} is nan at step 20000: ") and "lower optimizer.lr" in line
    rows[-1]["skipped_steps"] = 15
    assert [line.split(" were")[0] for line in findings(rows, STEPS, CLASSES)] == ["the gradients"]


def test_what_is_too_early_to_say():
    early = [row for row in changed("sample_agreement", 0.01, 0) if row["step"] <= STEPS / 3]
    assert findings(early, STEPS, CLASSES) == []
    flat = [row for row in changed("loss", 0.5, 0) if row["step"] < 5_000]
    assert findings(flat, STEPS, CLASSES) == []
    begun = [row for row in changed("loss", 0.5, 0) if row["step"] > 500]
    assert findings(begun, STEPS, CLASSES) == [], "the first losses are not known"
    risen = [row for row in changed("val_loss", lambda step: 0.1 + step / 1e5, 15_000) if row["step"] <= 16_000]
    assert findings(risen, STEPS, CLASSES) == [], "three evaluations"


def test_agreement_is_judged_by_who_can_tell_real_ones():
    rows = changed("sample_agreement", 0.2, 0)
    for real, count in ((0.24, 0), (0.26, 1)):
        rows[-1]["real_agreement"] = real
        assert len(findings(rows, STEPS, CLASSES)) == count


@pytest.mark.parametrize(("value", "count"), [(0.74, 1), (0.76, 0)])
def test_of_two_classes_three_times_chance_is_out_of_reach(value, count):
    assert len(findings(changed("sample_agreement", value, 0), STEPS, 2)) == count


def test_what_has_passed_is_no_finding():
    rows = changed("sample_near", 0.2, 0)
    rows[-1]["sample_near"] = 0.01
    assert findings(rows, STEPS, CLASSES) == []
    assert findings(changed("skipped_steps", lambda step: 16 * (step == 100), 0), STEPS, CLASSES) == []
