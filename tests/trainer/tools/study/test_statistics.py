import numpy as np
import pytest

from trainer.tools.study.statistics import holm, in_words, paired_difference, seed_interval

RECORDINGS = np.repeat(np.arange(40), 10)


def arm(accuracy, seed, seeds=3, of_seed=0.01, of_recording=0.1):
    """Whether pictures are recognised, bool (S, N), where seeds and recordings have accuracies of their own."""
    rng = np.random.default_rng([7, seed])
    easy = np.random.default_rng(0).normal(0, of_recording, 40)[RECORDINGS]  # for all arms
    share = accuracy + easy + rng.normal(0, of_seed, (seeds, 1))
    return rng.random((seeds, len(RECORDINGS))) < share


def test_the_interval_over_seeds_is_students():
    low, high = seed_interval(np.array([0.80, 0.82, 0.84]))
    assert (low, high) == pytest.approx((0.82 - 4.3027 * 0.02 / 3**0.5, 0.82 + 4.3027 * 0.02 / 3**0.5), abs=1e-4)
    assert seed_interval(np.array([0.8])) is None


def test_a_clear_difference_is_found_and_has_its_sign():
    found = paired_difference(arm(0.55, 1), arm(0.8, 2), RECORDINGS)
    assert found.value == pytest.approx(-0.25, abs=0.05)
    assert found.interval[0] < found.value < found.interval[1] < 0 and found.p < 0.001
    assert in_words(found.value, found.p) == "hurts"
    swapped = paired_difference(arm(0.8, 2), arm(0.55, 1), RECORDINGS)
    assert swapped.value == -found.value and in_words(swapped.value, swapped.p) == "helps"


def test_two_copies_of_an_arm_seldom_differ():
    """Of 40 pairs that differ in their seeds alone, 5% may be said to differ."""
    pairs = [(arm(0.8, 2 * i, of_seed=0.02), arm(0.8, 2 * i + 1, of_seed=0.02)) for i in range(40)]
    assert sum(paired_difference(*pair, RECORDINGS).p < 0.05 for pair in pairs) <= 2
    same = arm(0.8, 1)
    assert in_words(0.0, paired_difference(same, same, RECORDINGS).p) == "no difference shown"


def test_recordings_are_drawn_whole():
    """All that one recording gives is one piece of evidence, however many pictures it has."""
    base = np.zeros((1, 400), bool)
    better = base.copy()
    better[0, RECORDINGS == 3] = True  # 10 pictures more, of one recording
    spread = base.copy()
    spread[0, ::40] = True  # 10 more, of ten recordings
    assert paired_difference(better, base, RECORDINGS).p > 0.5 > 0.001 > paired_difference(spread, base, RECORDINGS).p


def test_holm_as_in_his_paper():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []
