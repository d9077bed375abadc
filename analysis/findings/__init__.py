"""What a study says: outcomes, pairs, contrasts, verdicts, doses. Draws nothing."""
