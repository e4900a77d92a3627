"""Sound: decoded, placed by its own times, as log mel spectrograms."""
