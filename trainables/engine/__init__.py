"""Training and evaluation on one device: the loop, what fits, what is fast, what is kept."""
