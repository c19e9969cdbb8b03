"""How a step runs on one or many devices."""
