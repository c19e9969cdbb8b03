"""The only place that composes sibling packages."""
