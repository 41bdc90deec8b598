"""What came in: who asks, and for what, checked once."""
