"""Loaded by every Python process below a test that starts Ray."""

import warm_start  # noqa: F401
