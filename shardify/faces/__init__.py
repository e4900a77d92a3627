"""Faces: one smoothed box per clip, found in the same decoding pass."""
