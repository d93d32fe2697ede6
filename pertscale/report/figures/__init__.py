"""Figures of a result, by subject."""
