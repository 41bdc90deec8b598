"""Whose money a running attempt spends, and the pools' meters."""
