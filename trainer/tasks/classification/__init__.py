"""Classification: one class of several per clip."""
