"""Training histories of other scripts, as figures and tables."""
