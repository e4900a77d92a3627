"""Shards as a data set at Kaggle."""
