"""What of a study runs next and what its seeds can tell apart: looks, the gate, power."""
