"""Executors carry out whole units of work; they do not know what the units are about."""
