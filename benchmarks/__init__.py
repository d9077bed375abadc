"""What the README's numbers are made with: commands that measure, and the runs they compare with."""
