import json

import numpy as np
import pytest

from shardify.format.members.latent import Latent

RECORD = {
    "kind": "latent", "shape": [4, 2, 3], "input_range": [-1.0, 1.0], "downsampling": 8, "batch": 16, "device": "cpu",
    "vae": {"class": "diffusers:AutoencoderKL", "config": {}, "sha256": "ab", "trained_on": "unknown"}, "source": "cd",
    "count": 3, "mean": [0.0, 1.0], "std": [1.0, 2.0], "posterior_std": [0.1, 0.1], "min": -2.0, "max": 5.0,
    "scaling_factor": 0.6, "reconstruction": {"train": {"mse": 0.01, "psnr": 20.0}},
}  # fmt: skip
LATENT = Latent.from_dict("latent", RECORD)


def test_moments_come_back_and_the_record_with_them():
    values = np.random.default_rng(0).normal(size=LATENT.shape).astype(np.float16)
    assert LATENT.extension == "latent.npy" and np.array_equal(LATENT.decode(LATENT.encode(values)), values)
    assert (LATENT.shape, LATENT.channels, LATENT.std) == ((4, 2, 3), 2, (1.0, 2.0))
    assert json.loads(json.dumps(LATENT.to_dict())) == RECORD
    assert Latent.from_dict("latent", {**RECORD, "later": 1}) == LATENT


def test_the_picture_shows_each_channel_of_the_mean_by_its_own_deviation():
    values = np.zeros(LATENT.shape, np.float16)
    values[:2] = np.array([3, -5], np.float16)[:, None, None]  # three deviations above and below
    assert np.unique(LATENT.picture(values)[:, :3]).tolist() == [255]
    assert np.unique(LATENT.picture(values)[:, 3:]).tolist() == [0]


def test_people_read_the_autoencoder_and_the_figures():
    text = "\n".join(LATENT.notes())
    for part in ("2 × 2 × 3", "diffusers:AutoencoderKL", "trained on unknown", "std 1.000 2.000", "train 20.0 dB"):
        assert part in text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", [3, 2, 3]), ("shape", [4, 2]), ("shape", [1 << 30, 2, 2]), ("std", [1.0]), ("std", [1.0, -1.0]),
        ("mean", [0.0, float("nan")]), ("count", 0), ("vae", {"class": "x"}), ("input_range", [0.0]),
        ("scaling_factor", None), ("scaling_factor", 0), ("reconstruction", {"train": {"mse": 1.0}}), ("source", None),
    ],
)  # fmt: skip
def test_entries_that_are_not_written_are_refused(field, value):
    with pytest.raises(ValueError, match=r"^members\.latent\."):
        Latent.from_dict("latent", {**RECORD, field: value})
    with pytest.raises(ValueError, match=r"members\.latent has no std"):
        Latent.from_dict("latent", {name: each for name, each in RECORD.items() if name != "std"})
