"""The harness: data, partitions, shards, runs, sweeps, metrics, reports and plots."""
