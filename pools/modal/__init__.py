"""Pools, and the router itself, as Modal Servers: what is declared, planned, deployed, and asked of the platform.

What plans and checks is pure. The modules that need Modal's SDK (`app`, `billing`, `container`, `deploy`,
`deploy_router`, `live`, `sdk`) are imported only where they are used, since loading it takes long.
"""
