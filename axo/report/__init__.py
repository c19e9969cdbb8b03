"""What axo shows of data, as a page."""
