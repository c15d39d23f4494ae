"""One file a verb: what a worker process runs."""
