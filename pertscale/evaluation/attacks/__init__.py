"""Predictions that know nothing of what is held out, and whether they gain in a metric."""
