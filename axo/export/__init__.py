"""Turn what was trained into what others load."""
