"""Property-based fuzzing of everything that reads a file: a value or an error of our own, never a crash or a
hang.
"""
