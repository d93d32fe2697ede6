"""Files that are complete or absent: locations, commits, locks. It knows nothing of screens."""
