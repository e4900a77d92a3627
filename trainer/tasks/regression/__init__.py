"""Regression: one value per clip."""
