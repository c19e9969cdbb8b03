"""Where metrics are sent besides metrics.jsonl."""
