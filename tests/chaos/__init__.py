"""Chaos: processes killed, nodes lost, files damaged, disks filled, for real, while a study runs."""
