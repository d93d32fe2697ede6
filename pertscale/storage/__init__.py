"""Bytes that are complete or not there: locations, commits, locks. It knows nothing of screens."""
