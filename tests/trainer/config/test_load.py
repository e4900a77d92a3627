"""Settings: command line over YAML over defaults; every mistake is named with its key."""

import dataclasses

import pytest
import yaml

from trainer.config.load import MEANT, OTHER_WORDS, all_keys, from_dict, load_settings
from trainer.config.settings import Settings
from trainer.errors import SettingsError


def test_names_that_other_tools_rely_on():
    fixed = {
        "epochs", "seed", "batch_size", "checkpoint_every_steps", "max_hours", "model.backbone", "model.weights",
        "optimizer.lr", "loss.name", "scheduler.name", "data.cache", "data.on_error",
    }  # fmt: skip
    assert fixed <= set(all_keys())


def test_command_line_over_yaml_over_defaults(tmp_path):
    config = tmp_path / "a.yaml"
    config.write_text("epochs: 3\nseed: 4\noptimizer: {lr: 1e-4}\nmodel:\n  backbone: tiny\n")
    settings = load_settings(config, ("epochs=5", "data.cache=none", "optimizer.weight_decay=1e-3"))
    assert (settings.epochs, settings.seed, settings.batch_size) == (5, 4, Settings().batch_size)
    assert (settings.model.backbone, settings.data.cache) == ("tiny", "none")
    assert (settings.optimizer.lr, settings.optimizer.weight_decay) == (1e-4, 1e-3)


def test_what_is_dumped_is_read_back(tmp_path):
    settings = load_settings(None, ("max_hours=0.5", "model.name=a.b:C", "model.options.depth=3", "ema=0.99"))
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings.to_dict()))
    assert load_settings(path) == settings
    assert settings.model.options == {"depth": 3}


def test_dotted_keys_are_groups_as_after_set(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "model.backbone: tiny\noptimizer.lr: 1e-3\nmodel: {dropout: 0.2}\nmodel.options.deep.er: 3\n"
        "model.options: {width: 2}\nepochs: 4\n"
    )
    settings = load_settings(path, ("model.backbone=resnet18",))
    assert (settings.model.backbone, settings.model.dropout) == ("resnet18", 0.2)
    assert (settings.optimizer.lr, settings.epochs) == (1e-3, 4)
    assert settings.model.options == {"width": 2, "deep": {"er": 3}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model.backbone: tiny\nmodel: {backbone: tiny}\n",
            "model.backbone is given twice, as one key and in its group",
        ),
        ("model.options: {a: 1}\nmodel.options.a: 1\n", "model.options.a is given twice"),
        ("model: tiny\nmodel.backbone: tiny\n", "model.backbone: model is a value, not a group of settings"),
        ("model.backbone: tiny\nmodel.backbone: tiny\n", "model.backbone is given twice"),
        ("epochs: 3\nseed: 1\nepochs: 4\n", "epochs is given twice"),
        ("model: {dropout: 0, dropout: 1}\n", "dropout is given twice"),
        ("model.backbon: tiny\n", "unknown setting model.backbon; did you mean model.backbone?"),
    ],
)
def test_a_setting_is_given_once(text, message, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_empty_file_is_all_defaults(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert load_settings(path) == Settings()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.lr=1", "unknown setting optimiser; did you mean optimizer"),
        ("optimizer.lrr=1", "unknown setting optimizer.lrr; did you mean optimizer.lr?"),
        ("lr=1", "unknown setting lr; did you mean optimizer.lr?"),
        ("model.fusion_hidden_dim=512", "unknown setting model.fusion_hidden_dim; did you mean model.fusion.width?"),
        ("model.video_encoder={}", "unknown setting model.video_encoder; did you mean model.video.encoder?"),
        ("freeze_backbone=true", "unknown setting freeze_backbone; did you mean model.video.freeze?"),
        ("model.lr=1", "unknown setting model.lr; did you mean optimizer.lr?"),
        ("model.pretrained=true", "unknown setting model.pretrained; did you mean model.weights?"),
        ("model.xyz=true", "unknown setting model.xyz; known: name, options"),
        ("optimizer.name=adamw", "unknown setting optimizer.name; known: lr, weight_decay"),
        ("Learning-Rate=1", "unknown setting Learning-Rate; did you mean optimizer.lr?"),
        ("learning_rte=1", "unknown setting learning_rte; did you mean optimizer.lr?"),
        ("num_epochs=3", "unknown setting num_epochs; did you mean epochs?"),
        ("data.num_workers=3", "unknown setting data.num_workers; did you mean data.workers?"),
        ("train.label_smoothing=0.1", "unknown setting train"),
        ("data.cache_dir=s3://bucket/x", "data.cache_dir is s3://bucket/x; it must be a folder of this machine"),
        ("epoch=1", "unknown setting epoch; did you mean epochs?"),
        ("epochs=many", "epochs is 'many'; it must be of type int"),
        ("epochs=1.5", "epochs is 1.5; it must be of type int"),
        ("epochs=true", "epochs is True; it must be of type int"),
        ("epochs=0", "epochs is 0; it must be above 0"),
        ("seed=-1", "seed is -1; it must lie between 0 and 2^32 - 1"),
        ("optimizer.lr=fast", "optimizer.lr is 'fast'; it must be of type float"),
        ("optimizer.lr=nan", "optimizer.lr is nan"),
        ("optimizer.lr=inf", "optimizer.lr is inf"),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay is -1"),
        ("optimizer.clip_norm=-1", "optimizer.clip_norm is -1"),
        ("model.differences=1", "model.differences is 1; it must be of type bool"),
        ("model.temporal=gru", "model.temporal is 'gru'; it must be one of lstm, transformer"),
        ("model={temporal: transformer, lstm_hidden: 0}", "needs model.lstm_hidden and model.attention_heads above 0"),
        ("model=tiny", "model is 'tiny'; it is a group of settings"),
        ("model.lstm_hidden=-1", "model.lstm_hidden is -1"),
        ("model.dropout=1.5", "model.dropout is 1.5; it must lie between 0 and 1"),
        ("loss.gamma=-1", "loss.gamma is -1"),
        ("loss.smoothing=2", "loss.smoothing is 2"),
        ("batch_size=many", "batch_size is 'many'; it must be auto or of type int"),
        ("batch_size=0", "batch_size is 0"),
        ("model.unfreeze_every=2", "which needs model.freeze=backbone, not none"),
        ("model={compile: true, gradient_checkpointing: true}", "do not work together"),
        ("optimizer.layer_decay=0", "optimizer.layer_decay is 0"),
        ("optimizer.layer_decay=1.5", "optimizer.layer_decay is 1.5"),
        ("loss={name: focal, smoothing: 0.1}", "loss.smoothing is 0.1, but it belongs to cross_entropy, not to focal"),
        ("loss={alpha: 0.75}", "loss.alpha is 0.75, but it belongs to focal, not to cross_entropy"),
        ("loss={name: bce, gamma: 3}", "loss.gamma is 3.0, but it belongs to focal, not to bce"),
        ("loss={name: l1, class_weights: true}", "but it belongs to cross_entropy, focal, bce, not to l1"),
        ("loss.name=hinge", "loss.name is 'hinge'; it must be one of cross_entropy, focal, bce, mse, l1"),
        ("loss.name=[focal]", "loss.name is ['focal']; it must be one of cross_entropy"),
        ("loss={name: bce, gamma: high}", "loss.gamma is 'high'; it must be of type float"),
        ("loss={name: focal, alpha: 2}", "loss.alpha is 2.0; it must lie between 0 and 1, or be -1 for none"),
        ("loss.gama=1", "unknown setting loss.gama; did you mean loss.gamma?"),
        ("loss=focal", "loss is 'focal'; it is a group of settings"),
        ("ema=1", "ema is 1.0; it must be 0 for none, or below 1"),
        ("seed=99999999999999999999", "seed is 99999999999999999999; it must lie between 0 and 2^32 - 1"),
        ("early_stopping=4", "make early_stopping at least 5"),
        ("scheduler={name: cosine, patience: 5}", "scheduler.patience is 5, but it belongs to plateau, not to cosine"),
        ("scheduler.warmup_epochs=2", "scheduler.warmup_epochs is 2.0, but it belongs to cosine, not to plateau"),
        ("scheduler={name: cosine, warmup_epochs: 25}", "run would end in its warm-up"),
        ("scheduler={name: constant, warmup_steps: -1}", "scheduler.warmup_steps is -1"),
        ("steps=100", "steps is 100, checkpoint_every_steps 0: with steps, it is the number of steps"),
        ("scheduler.factor=1", "scheduler.factor is 1"),
        ("scheduler.patience=-1", "scheduler.patience is -1"),
        ("scheduler.warmup_epochs=-1", "scheduler.warmup_epochs is -1"),
        ("data.cache=disk", "data.cache is 'disk'; it must be one of auto, none, ram, device"),
        ("data.workers=-1", "data.workers is -1"),
        ("data.val_fraction=1", "data.val_fraction is 1"),
        ("augment.crop=0", "augment.crop is 0"),
        ("max_hours=0", "max_hours is 0"),
        ("max_hours=long", "max_hours is 'long'; it must be none or of type float"),
        ("data.frames=1.5", "data.frames is 1.5; it must be none or of type int"),
        ("data.frames=auto", "data.frames is 'auto'; it must be none or of type int"),
        ("batch_size=none", "batch_size is 'none'; it must be auto or of type int"),
        ("epochs", "write it as key=value"),
        ("epochs=[1", "is not YAML"),
    ],
)
def test_mistakes_are_named(override, message):
    with pytest.raises(SettingsError) as caught:
        load_settings(None, (override,))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [("- 1\n", "holds a list"), ("a: [", "is not YAML"), ("1: 2\n", "unknown setting 1"), ("\0", "a.yaml")],
)
def test_files_that_are_no_settings(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_settings(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.yaml: cannot be read.*--config"):
        load_settings(tmp_path / "none.yaml")


@pytest.mark.parametrize("word", ["none", "null", "~", ""])
@pytest.mark.parametrize("key", ["data.frames", "data.size", "data.max_per_class", "max_hours", "early_stopping"])
def test_none_as_the_documentation_and_as_yaml_write_it(key, word, tmp_path):
    config = tmp_path / "some.yaml"
    config.write_text("{data: {frames: 2, size: 8, max_per_class: 4}, max_hours: 1, early_stopping: 9}")
    *group, name = key.split(".")
    settings = load_settings(config, (f"{key}={word}",))
    assert getattr(settings.data if group else settings, name) is None


def test_none_may_be_written_as_yaml_writes_it():
    settings = from_dict({"model": {"weights": None}, "data": {"cache": None}, "max_hours": None})
    assert (settings.model.weights, settings.data.cache, settings.max_hours) == ("none", "none", None)


def test_files_of_0_2_0_hold_the_settings_of_all_losses_and_schedulers():
    loss = {"smoothing": 0.0, "alpha": -1.0, "gamma": 2.0, "class_weights": False}
    scheduler = {"factor": 0.5, "patience": 3, "warmup_epochs": 2.0}
    settings = from_dict({"loss": {"name": "l1", **loss}, "scheduler": {"name": "cosine", **scheduler}})
    assert settings.to_dict()["loss"] == {"name": "l1"}
    assert settings.to_dict()["scheduler"] == {"name": "cosine", "warmup_epochs": 2.0}
    assert from_dict({"loss": loss | {"smoothing": 0.1}}).loss.smoothing == 0.1, "cross_entropy without a name"


def test_every_word_of_other_tools_leads_to_a_setting_and_is_none():
    keys = all_keys()
    assert set(OTHER_WORDS) <= set(keys) and not set(MEANT) & {key.rpartition(".")[2] for key in keys}
    assert len(MEANT) == sum(len(words.split()) for words in OTHER_WORDS.values()), "a word stands for one setting"


def test_batch_size_may_be_auto():
    assert load_settings(None, ("batch_size=auto",)).batch_size == "auto"


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().epochs = 3
