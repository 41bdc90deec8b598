"""What GPU time costs, who may spend it, and what was spent."""
