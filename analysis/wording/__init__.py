"""Findings in words. Computes nothing."""
