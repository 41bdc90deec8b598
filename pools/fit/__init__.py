"""What a pool can do: whether a model fits its GPUs, and how long it takes."""
