"""What is replayed, and in which order everything is trained on."""
