"""The worker process: compose, loop, evaluate, checkpoint."""
