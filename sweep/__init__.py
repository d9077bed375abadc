"""The cluster side: what to run, where, and what is already done."""
