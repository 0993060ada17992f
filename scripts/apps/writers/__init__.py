"""Foreign SQLite engines and bindings, each run beside the mirror with one workload."""
