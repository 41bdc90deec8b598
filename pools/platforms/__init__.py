"""Platforms behind a plain HTTP control plane, and several of them as one."""
