"""How images get from a data set's files to the contract's `ImageItems`."""
