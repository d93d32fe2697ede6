"""What a benchmark would take: its units, their rates, memory and seconds."""
