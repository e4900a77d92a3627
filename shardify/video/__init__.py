"""Decoding of video: exact frames at chosen times."""
