"""Start the worker processes of a Plan."""
