"""Jobs for clips: their records, their bytes, and running them."""
