import pytest

from shardify.format.words import meaning_of, split_of


@pytest.mark.parametrize(
    ("meaning", "names"),
    [
        ("real", "real Real originals original_sequences authentic pristine genuine bona-fide Celeb-real YouTube-real"),
        ("fake", "fake FAKES deepfakes manipulated_sequences Celeb-synthesis forged generated tampered spoof"),
        (None, "unreal realistic fakery youtube celeb synth test Face2Face 0 1"),
    ],
)
def test_what_the_name_of_a_class_means(meaning, names):
    assert {name: meaning_of(name) for name in names.split()} == dict.fromkeys(names.split(), meaning)


def test_words_for_splits_in_any_case():
    words = "train Training VAL valid validate validation dev test testing eval evaluation"
    assert [split_of(word) for word in words.split()] == ["train"] * 2 + ["val"] * 5 + ["test"] * 4
    assert split_of("tests") is None
