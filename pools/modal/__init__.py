"""Pools as Modal Servers: what is declared, planned, deployed, and asked of the platform. Only `deploy`, `live` and
`container` import the SDK, and only when they are used.
"""
