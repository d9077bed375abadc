"""Pure functions of arrays: measures, intervals, bands, power."""
