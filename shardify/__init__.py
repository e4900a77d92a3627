"""Decode videos once, into WebDataset shards of resized frames."""

__version__ = "0.2.0"
