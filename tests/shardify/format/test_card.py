import numpy as np
import yaml

from shardify.format.card import card_bytes
from shardify.format.records import sample_dtype


def test_front_matter_names_each_splits_tars_and_the_table_counts():
    samples = np.zeros(5, sample_dtype())
    samples["split"], samples["label_class"] = [0, 0, 0, 2, 2], [0, 1, 1, 0, 1]
    counts = (("train", 3, 1), ("val", 0, 0), ("test", 2, 0))
    splits = {name: {"samples": n, "failed": failed, "shards": [{}] * bool(n)} for name, n, failed in counts}
    meta = {"version": 2, "heads": [{"name": "class", "classes": ["real", "fake"]}], "classes": ["real", "fake"]}
    meta |= {"splits": splits, "settings": {"frames": 16, "size": 64, "codec": "jpeg"}}
    text = card_bytes(meta, samples).decode()
    _, front, body = text.split("---\n", 2)
    (config,) = yaml.safe_load(front)["configs"]
    assert config["data_files"] == [
        {"split": "train", "path": "train-*.tar"},
        {"split": "test", "path": "test-*.tar"},
    ]
    assert "| train | 1 | 2 | 1 | 1 |" in body and "| test | 1 | 1 | 1 | 0 |" in body
    assert "|---|---|---|---|---|\n" in body  # as in folders of earlier releases, which verify compares
    assert "16 frames of 64×64 pixels" in body and "mel.npy" not in body
    meta["members"] = {"mel": {"mels": 8, "columns": 32, "low": 20.0, "high": 8000.0}}
    assert "`<key>.mel.npy` is its sound, float16 `(1, 8, 32)`" in card_bytes(meta, samples).decode()
