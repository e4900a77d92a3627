"""The words that people use for splits, and for real and fake: folders, classes and lists are named by them."""

from __future__ import annotations

import re
from typing import Literal

SPLITS = ("train", "val", "test")
# `validate` is Kinetics' word, `dev` and `eval` are those of speech corpora.
SPLIT_WORDS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validate": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_THINGS = r"s?([ _-]?(video|sequence|clip|image|frame|face)s?)?"
_CELEBDF = "((celeb|youtube)[ _-]?)?"  # Celeb-real, YouTube-real, Celeb-synthesis
_REAL = re.compile(
    rf"{_CELEBDF}(real|original|authentic|pristine|genuine|bona[ _-]?fide){_THINGS}",
    re.IGNORECASE,
)
_FAKE = re.compile(
    rf"{_CELEBDF}(fake|deepfake|manipulated|manipulation|synthesis|synthesi[sz]ed|synthetic|forged|forgery|forgeries|"
    rf"generated|altered|tampered|spoof){_THINGS}",
    re.IGNORECASE,
)


def split_of(word: str) -> str | None:
    """The split that a word means, in any case: train, val, test, or None."""
    return SPLIT_WORDS.get(word.lower())


def meaning_of(class_name: str) -> Literal["real", "fake"] | None:
    """Whether a class's name means real or fake, in any case; None where it means neither.

    Real are real, original, authentic, pristine, genuine and bona fide; fake are fake, deepfake, manipulated,
    synthesis, forged, generated, tampered, spoof and the like. A plural, and a word such as `videos` or `faces` behind
    it, may follow (`original_sequences`); the folders of Celeb-DF count, too (`YouTube-real`, `Celeb-synthesis`).
    """
    return "real" if _REAL.fullmatch(class_name) else "fake" if _FAKE.fullmatch(class_name) else None
