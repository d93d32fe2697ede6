"""Inner loops of the classifiers, on plain arrays."""
