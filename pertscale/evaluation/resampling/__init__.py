"""How far scores would be off with other perturbations: resamples of them, intervals, ranks."""
