"""One verb a file: parse, call, render."""
