"""A vLLM-like server over real HTTP, with batching, memory, boots and failures; it keeps its own bill."""
