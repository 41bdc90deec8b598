"""Pools that are Deployments of Kubernetes: who is alive, by their Pods; waking and sleeping, by their scale."""
