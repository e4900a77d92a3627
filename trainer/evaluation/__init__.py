"""Figures, tables and pictures, made of arrays."""
