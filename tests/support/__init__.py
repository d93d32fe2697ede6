"""What tests and developers share."""
