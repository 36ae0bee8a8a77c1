"""What one trial is, and how it runs: specs, backbones, methods, data sets, training. Knows nothing of Ray."""
