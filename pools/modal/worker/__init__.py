"""A small server for models that no engine of the catalogue serves: pictures over diffusers, InstantID, SeedVR2.

It runs in a container of its own (`python -m pools.modal.worker MODEL …`) that has torch and what the model needs, and
of ours only this package and `pools.wire.multipart`, which need the standard library alone. `server` is the HTTP side,
`line` who waits, `asked` how bodies are read, `trouble` what is told of a failure; `pictures`, `instantid` and
`restore` are what models do, the last with `probe` and `program` in processes of their own. InstantID's and SDXL's
pipelines were run with random weights, never with their own; the program that restores clips never was.
"""
