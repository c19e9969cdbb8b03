"""The few places where another package is made to behave otherwise, one file each."""
