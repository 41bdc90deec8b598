"""What pools are: the catalogue's rows, read, checked and frozen."""
