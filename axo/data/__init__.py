"""Rows of any file become samples: ids and labels, prepared once, packed, ordered and collated."""
