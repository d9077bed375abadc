"""From a configuration to cells: inputs, labels, what would run and what it takes."""
