"""What stands between a file from outside and memory: limits, damage, pickles, text, HDF5."""
