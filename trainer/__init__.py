"""Trainer of video classifiers on shards, which needs no video decoder."""

import importlib

from trainer import tasks  # noqa: F401 (it registers the losses)

PUBLIC = {  # where each lies: imported when it is asked for, as it pulls in torch
    "ClipLoader": "trainer.data.loader",
    "Prediction": "trainer.tasks.predicting",
    "TrainedModel": "trainer.tools.trained_model",
    "load_model": "trainer.tools.trained_model",
}


def __getattr__(name: str):
    if name in PUBLIC:
        return getattr(importlib.import_module(PUBLIC[name]), name)
    raise AttributeError(f"module 'trainer' has no attribute {name!r}")


__all__ = [*PUBLIC]
