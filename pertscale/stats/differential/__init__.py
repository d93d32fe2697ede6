"""The rank-sum test of a screen: a map over tiles of perturbations and genes."""
