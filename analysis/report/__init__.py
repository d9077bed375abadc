"""A report of one study or several: figures, tables and words on pages."""
