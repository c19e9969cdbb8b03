"""How much of a model is trained: all, or adapters."""
