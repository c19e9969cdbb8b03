"""The recipe language: sections, the reader, checks across keys, renamed keys."""
