"""From sources to a store, in two passes."""
