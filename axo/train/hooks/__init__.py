"""What happens between steps, one capability a file."""
