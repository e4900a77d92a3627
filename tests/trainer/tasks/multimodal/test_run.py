"""Runs on video and sound: what they leave, that they resume, and what missing sound changes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import torchvision
from heads import SIDE, add_side
from runs import ALONE, MULTIMODAL, best_weights, history, newest_weights, run_multimodal
from two_members import MEL, add_mel

from shardify.format.records import Head
from trainer.config.load import load_settings
from trainer.data.loader import ClipLoader
from trainer.engine.assemble import make_engine, make_model
from trainer.engine.checkpoint import Progress, load_newest, load_state, save_state
from trainer.errors import FormatError, Interrupted, SettingsError
from trainer.monitor.progress import show_opening
from trainer.shards.shard_set import open_shards
from trainer.tasks import task_of
from trainer.tasks.multimodal.contribution import SwappedSound
from trainer.train import prepare

WHOLE = ("model.modality_dropout=0.5", "augment.time_mask=0.3", "augment.frequency_mask=0.3", "augment.gain=6")


@pytest.fixture(scope="module")
def with_sound(shards_folder, tmp_path_factory):
    """`shards_folder` with sound and a second head; every seventh clip is without sound."""
    folder = shutil.copytree(shards_folder, tmp_path_factory.mktemp("sound") / "shards")
    return add_side(add_mel(folder, absent=range(0, 36, 7)))


@pytest.fixture(scope="module")
def finished(with_sound, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, run_multimodal(with_sound, out, *WHOLE)


def test_a_run_leaves_figures_of_each_head_and_what_each_modality_contributes(finished):
    out, record = finished
    assert list(record["test"]["heads"]) == ["class", "side"] and record["metric"] == "mean.f1_macro"
    assert record["model"]["weights"] == "video: random; audio: random"
    found = json.loads((out / "results" / "contribution.json").read_text())
    figures = found["figures"]
    assert list(figures) == ["both", "video", "audio", "neither", "shuffled audio"]
    assert figures["both"]["class.accuracy"] == record["test"]["heads"]["class"]["accuracy"]
    gain = figures["both"]["class.accuracy"] - figures["neither"]["class.accuracy"]
    shares = [found["shapley"][name]["class.accuracy"] for name in ("video", "audio")]
    assert sum(shares) == pytest.approx(gain)
    assert figures["neither"]["class.accuracy"] == 0.5, "the same for every clip"


def test_contributions_are_figures_at_the_runs_threshold(shards_folder, tmp_path):
    one_head = add_mel(shutil.copytree(shards_folder, tmp_path / "shards"))
    record = run_multimodal(one_head, tmp_path / "run", "epochs=1", "optimizer.lr=1e-4")  # far from 0.5
    both = json.loads((tmp_path / "run" / "results" / "contribution.json").read_text())["figures"]["both"]
    assert record["threshold"] is not None and both == {name: record["test"][name] for name in both}


def test_a_damaged_clip_lends_no_sound(with_sound, tmp_path):
    folder = shutil.copytree(with_sound, tmp_path / "shards")
    shards = open_shards(folder)
    numbers = shards.numbers("test")
    damaged = int(numbers[shards.samples["mel_present"][numbers] == 1][0])
    with shards.shard(damaged).open("r+b") as file:
        file.seek(int(shards.samples["mel_offset"][damaged]) + 200)
        file.write(b"damage")
    options = {"on_error": "skip", "max_errors": 0.5, "batch_size": 8}
    loader = ClipLoader(open_shards(folder), "test", members=["frames", "mel"], **options)
    others = ClipLoader(loader.shards, "test", members=["mel"], numbers=numbers[::-1].copy(), **options)
    sound = {}
    for batch in SwappedSound(loader, others).batches(0):
        sound |= dict(zip(batch.numbers.tolist(), batch.members["mel_present"].tolist(), strict=True))
    expected = shards.samples["mel_present"][numbers[::-1]].astype(bool)
    expected[numbers[::-1] == damaged] = False
    assert list(sound.values()) == expected.tolist()


def test_a_resumed_run_is_the_same(finished, with_sound, tmp_path):
    out, record = finished
    with pytest.raises(Interrupted):
        run_multimodal(with_sound, tmp_path / "run", *WHOLE, "max_hours=1e-9")
    assert load_newest(tmp_path / "run" / "checkpoints")["progress"]["step"] == 1
    assert run_multimodal(with_sound, tmp_path / "run", *WHOLE, resume=True)["test"] == record["test"]
    assert history(tmp_path / "run") == history(out)
    for weights in (newest_weights, best_weights):
        assert all(map(torch.equal, weights(out).values(), weights(tmp_path / "run").values()))


def test_a_resumed_run_still_says_what_stands_in_for_videomae(shards_folder, tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    overrides = ("model.modalities=[video]", "model.video.encoder=auto", "epochs=1")
    with pytest.raises(Interrupted):
        run_multimodal(shards_folder, tmp_path / "run", *overrides, "max_hours=1e-9")
    record = run_multimodal(shards_folder, tmp_path / "run", *overrides, resume=True)
    (note,) = [note for note in record["notes"] if note.startswith("model.video.encoder auto: tiny")]
    assert note in (tmp_path / "run" / "results" / "experiment_report.txt").read_text()


def test_what_is_frozen_stays_so_in_a_resumed_run(with_sound, tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "w.pth")
    overrides = ("model.audio.encoder=resnet18", f"model.audio.weights={tmp_path / 'w.pth'}", "model.audio.freeze=true")
    settings, shards = load_settings(None, (*MULTIMODAL, *overrides)), open_shards(with_sound)
    numbers = shards.numbers("train")
    engine = make_engine(settings, shards, numbers, make_model(settings, shards, numbers, None), ALONE)
    progress = Progress(weights_origin=engine.model.weights_origin)
    save_state(engine, progress, 1, tmp_path, shards.fingerprint)
    checkpoint = load_newest(tmp_path / "checkpoints")
    again = make_engine(settings, shards, numbers, make_model(settings, shards, numbers, checkpoint), ALONE)
    assert load_state(again, checkpoint) == progress
    audio = again.model.encoders["audio"]
    assert not any(parameter.requires_grad for parameter in audio.parameters()) and not audio.training
    assert torch.equal(audio.layers.bn1.weight, engine.model.encoders["audio"].layers.bn1.weight)


def test_the_opening_says_which_weights_could_not_be_had(with_sound, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    settings = load_settings(None, (*MULTIMODAL, "model.audio.encoder=resnet18"))
    show_opening(prepare(settings, with_sound, tmp_path / "run", ALONE, None))
    said = capfd.readouterr().err
    assert (
        "weights are video: random; audio: random (resnet18-f37072fd.pth is not cached and cannot be fetched)" in said
    )


def test_one_modality_alone_and_one_head(with_sound, shards_folder, tmp_path):
    one_head = add_mel(shutil.copytree(shards_folder, tmp_path / "shards"))
    for name, shards in (("video", shards_folder), ("audio", one_head)):
        record = run_multimodal(shards, tmp_path / name, f"model.modalities=[{name}]", "epochs=1")
        assert record["model"]["weights"] == f"{name}: random" and "auc_roc" in record["test"]
        assert not (tmp_path / name / "results" / "contribution.json").exists()


def test_what_does_not_go_with_the_task_is_refused(shards_folder, tmp_path):
    with pytest.raises(FormatError, match=r"have no sound; build them with --audio auto, or .*modalities=\[video\]"):
        run_multimodal(shards_folder, tmp_path / "run")
    for overrides, words in (
        (("loss.name=mse",), "loss.name is mse, but model.name=multimodal learns classes"),
        (("model.modalities=[]",), r"use \[video, audio\], \[video\] or \[audio\]"),
        (("model.modality_dropout=0.1",), "the one modality is video"),
        (("model.fusion.heads=3",), "model.fusion.heads is 3; it must divide model.fusion.width, which is 16"),
        (("augment.gain=3",), "augment.gain is 3.0, but no sound is trained on here"),
        (("model.backbone=tiny",), "model.backbone is tiny, but it belongs to resnet_lstm, not to multimodal"),
        (("model.video.freeze=true",), "its weights are random and would never learn"),
        (("model.video.encoder=no/such",), "model.video.encoder: no/such is neither tiny"),
        (("loss.heads={clas: 2}",), "loss.heads is {'clas': 2.0}, but .* has one head, class, and nothing to weigh"),
    ):
        with pytest.raises(SettingsError, match=words):
            run_multimodal(shards_folder, tmp_path / "run", "model.modalities=[video]", *overrides)


@pytest.mark.parametrize("heads", [1, 2])
def test_the_settings_for_behaviour_go_with_one_label_and_with_several(heads):
    settings = load_settings(Path(__file__).parents[4] / "configs" / "behaviour.yaml", ())
    task = task_of(settings, [Head("species", ["a", "b"]), SIDE][:heads], {"mel": MEL})
    assert task.metrics[0] == ("auc_roc" if heads == 1 else "mean.f1_macro"), "which metric: auto comes to"


def test_several_heads_learn_classes_alone(with_sound, tmp_path):
    with pytest.raises(SettingsError, match=r"loss\.name is mse, but model\.name=multimodal learns"):
        run_multimodal(with_sound, tmp_path / "run", "loss.name=mse")
