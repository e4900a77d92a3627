"""The study from top to bottom: arms are trained, compared, and the synthetic pictures held against the real ones."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from shardify.format.words import SPLITS
from shardify.storage.local import check_writable
from shardify.text import duration
from trainer.config.settings import Settings
from trainer.config.vae import VaeSpec
from trainer.devices.distributed import Group, join_group, num_devices
from trainer.errors import SettingsError
from trainer.evaluation.neighbours import neighbours
from trainer.models.autoencoders.load import load_vae
from trainer.models.autoencoders.vae import Vae
from trainer.shards.shard_set import class_counts
from trainer.tools.evaluate import distinct_names
from trainer.tools.study.arms import CONTROL, REAL, Arm, choose_arms, list_arms
from trainer.tools.study.classifier import EVALUATIONS, classifier_settings, score, train_classifier, with_seed
from trainer.tools.study.outcomes import Outcome, load_classifier, read_outcome, save_classifier, save_outcome
from trainer.tools.study.pictures import Pictures, open_folders, read_pictures
from trainer.tools.study.report import draw_pairs, write_report
from trainer.tools.study.similarity import kernel_distance, precision_recall, spread
from trainer.tools.study.statistics import Difference, holm, in_words, paired_difference, seed_interval

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """What `trainer.study` is asked for."""

    shards: Path
    synthetic: tuple[Path, ...]
    out: Path
    seeds: int = 5
    steps: int = 2000
    per_class: tuple[int, ...] = (25, 50, 100)
    arms: tuple[str, ...] = ()  # none: all
    overrides: tuple[str, ...] = ()  # settings of the classifier
    vae: VaeSpec | None = None  # for the arms that train on pictures through it
    devices: str = "auto"


@dataclass(frozen=True)
class Study:
    """The parts of a study, made once and passed down."""

    request: StudyRequest
    settings: Settings
    pictures: Pictures
    folders: list[str]  # names of the synthetic ones
    vae: Vae | None
    arms: list[Arm]
    group: Group


def study(request: StudyRequest) -> dict:
    """The content of study.json, which it writes into `request.out` beside a page; what is there is not done again.

    Raises ShardifyError.
    """
    check_writable(request.out / "study.json")
    group = join_group(num_devices(request.devices) > 0)
    made = prepare(request, classifier_settings(request.overrides, group.device), group)
    outcomes = {arm.name: [run(made, arm, seed) for seed in range(request.seeds)] for arm in made.arms}
    record = {
        "shards": str(request.shards),
        "synthetic": [str(folder) for folder in request.synthetic],
        "classes": made.pictures.shards.classes,
        "seeds": request.seeds,
        "steps": request.steps,
        "evaluations": EVALUATIONS if len(made.pictures.of_split("val")) else 0,
        "test_pictures": len(made.pictures.of_split("test")),
        "settings": made.settings.to_dict(),
        "vae": made.vae.record if made.vae else None,
        "arms": compare(made, outcomes),
        "similarity": hold_against_real(made),
    }
    write_report(request.out, record)
    return record


def prepare(request: StudyRequest, settings: Settings, group: Group) -> Study:
    """Read the pictures and list the arms. Raises ShardifyError."""
    shards = open_folders(request.shards, request.synthetic)
    if len(shards.numbers("val")) == 0:
        if settings.scheduler.name == "plateau":
            raise SettingsError(
                f"scheduler.name is plateau, which goes by val, but {request.shards} has none; use cosine or constant"
            )
        logger.warning(f"{request.shards}: has no val split; the weights after the last step are judged, none as best")
    folders = [name.replace("/", "-") for name in distinct_names(list(request.synthetic))]
    vae = load_vae(request.vae, group.device) if request.vae else None
    pictures = read_pictures(shards, partial(through, vae) if vae else None)
    fewest = [class_counts(shards, pictures.of_synthetic(i)).min() for i in range(len(folders))]
    per_class = [count for count in request.per_class if all(count <= least for least in fewest)]
    for count in sorted(set(request.per_class) - set(per_class)):
        least, name = min(zip(fewest, folders, strict=True))
        logger.warning(f"no arm with {count} synthetic pictures of each class: a class of {name} has {least} only")
    arms = choose_arms(list_arms(folders, per_class, vae is not None), request.arms)
    return Study(request, settings, pictures, folders, vae, arms, group)


def through(vae: Vae, images: Tensor) -> Tensor:
    """Images, float32 (B, 3, S, S) in [0, 1], encoded and decoded."""
    mean, _ = vae.moments(vae.to_input(images))
    return vae.decode(mean)


def run(made: Study, arm: Arm, seed: int) -> Outcome:
    """What an arm comes to with one seed: trained here, or read where that was done before."""
    request, pictures, settings = made.request, made.pictures, with_seed(made.settings, arm.first_seed + seed)
    path = request.out / "arms" / arm.name / f"seed-{seed}.npz"
    about = identity(made, arm, settings)
    if outcome := read_outcome(path, about):
        return outcome
    begin = time.monotonic()
    trained = train_classifier(pictures, pictures.of_arm(arm, seed), settings, request.steps, made.group)
    outputs, _ = score(trained.model, pictures, pictures.of_split("test"), settings, made.group)
    if arm.name == REAL and seed == 0:
        save_classifier(request.out, trained.model)
    outcome = Outcome(outputs, trained.best_step, trained.val_accuracy)
    save_outcome(path, outcome, about)
    accuracy = (outputs.argmax(1) == pictures.labels[pictures.of_split("test")]).mean()
    when = f"best on val after {trained.best_step} steps" if trained.best_step else f"after {request.steps} steps"
    logger.info(
        f"{arm.name}, seed {seed + 1} of {request.seeds}: accuracy {accuracy:.3f}, {when} "
        f"({duration(time.monotonic() - begin)})"
    )
    return outcome


def identity(made: Study, arm: Arm, settings: Settings) -> str:
    """All that an outcome depends on, as text."""
    parts = made.pictures.shards.parts or (made.pictures.shards,)
    data = {"shards": parts[0].fingerprint}
    if arm.folder is not None:
        data["synthetic"] = parts[1 + arm.folder].fingerprint
    if arm.reconstructed:
        data["vae"] = made.vae.record | {"input_range": made.vae.input_range}
    return json.dumps({"steps": made.request.steps, **data, "settings": settings.to_dict()}, sort_keys=True)


def compare(made: Study, outcomes: dict[str, list[Outcome]]) -> dict[str, dict]:
    """The figures of each arm, and its difference from the real one, by the arm's name."""
    test = made.pictures.of_split("test")
    labels, recordings = made.pictures.labels[test], made.pictures.shards.samples["group"][test]
    correct = {name: np.stack([one.outputs.argmax(1) == labels for one in each]) for name, each in outcomes.items()}
    differences = {
        name: paired_difference(each, correct[REAL], recordings) for name, each in correct.items() if name != REAL
    }
    asked = [name for name in differences if name != CONTROL]  # of the control the answer is known
    adjusted = dict(zip(asked, holm([differences[name].p for name in asked]), strict=True))
    figures = {}
    for arm in made.arms:
        accuracies, best_steps = correct[arm.name].mean(1), [one.best_step for one in outcomes[arm.name]]
        figures[arm.name] = {
            "accuracy": float(accuracies.mean()),
            "interval": seed_interval(accuracies),
            "accuracies": accuracies.tolist(),
            **({"best_steps": best_steps} if all(best_steps) else {}),
            "pictures": len(made.pictures.of_arm(arm, 0)),
            **_against_real(differences.get(arm.name), adjusted.get(arm.name)),
        }
    return figures


def _against_real(difference: Difference | None, adjusted_p: float | None) -> dict:
    """The figures of an arm's difference from the real one, of which there is none itself.

    adjusted_p: for the number of arms; None of the control, which is judged by its own.
    """
    if difference is None:
        return dict.fromkeys(("difference_interval", "p", "p_adjusted", "verdict")) | {"difference": 0.0}
    return {
        "difference": difference.value,
        "difference_interval": difference.interval,
        "p": difference.p,
        "p_adjusted": adjusted_p,
        "verdict": in_words(difference.value, difference.p if adjusted_p is None else adjusted_p),
    }


def hold_against_real(made: Study) -> dict[str, dict]:
    """How near each synthetic folder is to the real pictures, by its name; the pictures of its closest pairs are drawn.

    Beside them, as `real`, the same of val: real pictures of other recordings, which is what the best ones could be.
    Features are those of the real arm's first classifier. KID, precision and recall are against test, which neither
    that one nor the synthetic pictures have seen; nearest neighbours are looked for in train, by thumbnails. What is
    near them val says, or test where there is no val; then nothing is left that `real` could be, which is left out.
    """
    pictures, settings = made.pictures, with_seed(made.settings, 0)
    model = load_classifier(made.request.out, pictures, settings, made.group)
    train, val, test = (pictures.of_split(split) for split in SPLITS)
    _, of_test = score(model, pictures, test, settings, made.group)
    found = {}
    sets = {name: pictures.of_synthetic(number) for number, name in enumerate(made.folders)}
    new = val if len(val) else test  # of other recordings than train
    for name, places in ({REAL: val} | sets if len(val) else sets).items():
        outputs, features = score(model, pictures, places, settings, made.group)
        labels, (precision, recall) = pictures.labels[places], precision_recall(features, of_test)
        closest = neighbours(*map(pictures.thumbnails, (places, train, new)))
        found[name] = {
            "pictures": len(places),
            "kid": kernel_distance(features, of_test),
            "precision": precision,
            "recall": recall,
            "agreement": float((outputs.argmax(1) == labels).mean()),
            "spread": spread(features, labels),
            "near_neighbours": closest.share,
        }
        if name != REAL:
            pairs = [(places[i], train[closest.nearest[i]]) for i in closest.closest()]
            draw_pairs(pictures.values.numpy(), pairs, made.request.out / f"closest-{name}.png")
    return found
