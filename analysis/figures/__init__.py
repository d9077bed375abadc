"""Every figure, one file each, and how all of them look."""
