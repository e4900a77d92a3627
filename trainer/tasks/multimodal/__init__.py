"""Video and sound: a task that learns classes from clips and the log mel spectrograms of their sound."""
