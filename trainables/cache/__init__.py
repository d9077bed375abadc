"""What this machine has found out and keeps, and the identity of this package's code."""
