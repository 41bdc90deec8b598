"""A small server for models that no engine of the catalogue serves: pictures over diffusers, InstantID, SeedVR2.

It runs in a container of its own (`python -m pools.modal.worker MODEL …`) that has torch and what the model needs, and
of ours only this package and `pools.multipart`, which need the standard library alone. `server` is the HTTP side,
`line` who waits, `asked` how bodies are read; `pictures`, `instantid` and `restore` are what models do. The pipelines
were run with tiny weights on a CPU, never on a GPU; the program that restores clips was never run here.
"""
