"""Classification of clips."""
