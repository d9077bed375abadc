"""A study read from its ledger into tidy frames. Writes nothing."""
