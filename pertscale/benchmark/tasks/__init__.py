"""The columns of a benchmark: each plans its units, runs and scores them."""
