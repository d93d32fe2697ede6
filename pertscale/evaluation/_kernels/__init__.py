"""Inner loops of the scores, on plain arrays."""
