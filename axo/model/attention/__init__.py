"""Attention implementations beyond those of transformers."""
