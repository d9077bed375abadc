"""Tasks: where examples come from, how they are worded, and how they become tokens."""
