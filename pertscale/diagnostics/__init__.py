"""What a run reports while it runs: progress, events, seconds."""
