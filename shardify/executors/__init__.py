"""Processes that carry out units of work."""
