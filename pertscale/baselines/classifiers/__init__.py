"""Methods that predict a class per pair of perturbation and gene."""
