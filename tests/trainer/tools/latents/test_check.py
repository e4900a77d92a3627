"""The check of an autoencoder: its figures are those of the latents, and what is wrong ends with 1."""

import re

import pytest
import torch
from click.testing import CliRunner
from latents import Mean

from trainer.check_vae import main


def check(pictures, vae, *arguments):
    return CliRunner().invoke(main, ["--shards", str(pictures), "--vae", vae, *arguments])


def test_a_sound_autoencoder(pictures, pca):
    options = ["--vae-weights", str(pca.weights), "--vae-options", '{"channels": 6, "patch": 4}']
    done = check(pictures, pca.vae, *options)
    assert done.exit_code == 0, done.output
    for part in ("42 pictures of train, 16 px, in [0, 1]; latents 6 × 4 × 4, 4 times smaller", "infinity): 0 of"):
        assert part in done.output
    assert "the better range is [0, 1]\n" in done.output


class Scaled(Mean):
    """Whose latents have a mean of 0 and a standard deviation of 0.179."""

    def encode(self, images):
        latents = super().encode(images)
        return 0.179 * (latents - latents.mean()) / latents.std(correction=0)

    def decode(self, latents):
        return super().decode(latents / 0.179 * 0.25 + 0.5)


def test_a_small_deviation_is_printed_and_its_remedy(pictures):
    done = check(pictures, f"{__name__}:Scaled", "--pictures", "16")
    assert "std 0.179" in done.output and "model.normalise=channel" in done.output


def test_the_other_range_is_named(pictures):
    done = check(pictures, "latents:Mean")
    assert "the better range is [0, 1]; pass --vae-range 0..1" in done.output
    done = check(pictures, "latents:Mean", "--vae-range", "0..1")
    assert done.exit_code == 0 and "the better range is [0, 1]\n" in done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [('{"spoil": 0.5}', "values of its latents are not finite"), ('{"blind": true}', "PSNR of .* 20 is the least")],
)
def test_what_cannot_be_used_ends_with_1(pictures, options, words):
    done = check(pictures, f"{__name__}:Blind", "--vae-range", "0..1", "--vae-options", options)
    assert done.exit_code == 1
    assert re.search(f"error: .*{words}", done.output)


def test_it_is_judged_in_the_range_in_use(pictures):
    done = check(pictures, f"{__name__}:Positive")
    assert done.exit_code == 1
    assert re.search(r"error: .*PSNR of .* 20 is the least .*; pass --vae-range 0\.\.1", done.output)
    assert check(pictures, f"{__name__}:Positive", "--vae-range", "0..1").exit_code == 0


class Positive(Mean):
    def encode(self, images):
        return super().encode(images.clamp(0.5, 1) if images.min() < 0 else images)


class Blind(Mean):
    def __init__(self, spoil=0.0, blind=False):
        super().__init__(spoil=spoil)
        self.blind = blind

    def decode(self, latents):
        return torch.zeros_like(super().decode(latents)) if self.blind else super().decode(latents)


@pytest.mark.parametrize(("text", "words"), [("{", "is not JSON"), ("[1]", "is no JSON object")])
def test_options_that_are_no_json_object_are_refused(pictures, text, words):
    done = check(pictures, "latents:Mean", "--vae-options", text)
    assert done.exit_code == 2 and words in done.output
