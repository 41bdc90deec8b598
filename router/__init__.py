"""One request, from HTTP to settled money."""
