"""Names to things: the index of everything a recipe can name."""
