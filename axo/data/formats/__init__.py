"""One family of dataset `type:` each: a row becomes a conversation or segments."""
