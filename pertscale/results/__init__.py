"""What a finished run holds; it can be read without the benchmark."""
