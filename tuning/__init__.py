"""Which trials run, and in what order: studies, their expansion, the ledger, Ray Tune, and the command line."""
