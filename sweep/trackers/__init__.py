"""Experiment trackers: each is given the rows of cells, and knows nothing of the ledger."""
