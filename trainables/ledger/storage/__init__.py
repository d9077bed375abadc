"""Where a study is kept, behind one interface: a module each, whose KIND is a Storage of one scheme."""
