"""The learning-rate search: a study of its own, and which rates go on."""
