"""Intervals, comparisons and ranks of all tables of scores, from what units kept."""
