"""Hostile values in numbers: `make fuzz` runs what is here in full, `make test` a sample of it."""
