"""What is minimised: modules that own the model and return a loss sum."""
