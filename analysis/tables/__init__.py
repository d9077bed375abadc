"""Every table, and how a table is written."""
