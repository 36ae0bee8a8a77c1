"""Where a trial runs: processes, devices, nodes, clusters."""
