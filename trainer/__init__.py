"""Trainer of video classifiers on shards, which needs no video decoder."""

from trainer import tasks  # noqa: F401 (it registers the losses)


def __getattr__(name: str):
    if name == "ClipLoader":  # pulls in torch: `python -m trainer --help` answers at once without it
        from trainer.data.loader import ClipLoader

        return ClipLoader
    raise AttributeError(f"module 'trainer' has no attribute {name!r}")


__all__ = ["ClipLoader"]
