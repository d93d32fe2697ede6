"""Running tasks on threads, processes or a cluster, and the memory they may take."""
