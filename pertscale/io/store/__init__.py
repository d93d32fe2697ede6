"""The store that ingest writes: its layout, its matrix, and whether all of it is there."""
