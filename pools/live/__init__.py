"""What the router believes about pools just now."""
