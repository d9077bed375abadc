"""Where a study is kept: a directory or a prefix of an object store, behind one interface."""
