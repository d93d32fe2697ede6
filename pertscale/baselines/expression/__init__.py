"""Models that predict a profile per perturbation."""
