"""Decode videos once, into WebDataset shards of resized frames."""

__version__ = "0.1.0"
