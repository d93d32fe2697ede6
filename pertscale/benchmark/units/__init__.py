"""What is fitted, predicted, scored and kept as one folder."""
