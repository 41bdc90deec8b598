"""The way of a request: decide, hold, try, fall back, settle."""
