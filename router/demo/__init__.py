"""The demo: simulated pools, the endpoint and recorded traffic, each in a process of its own, and whether it adds up.

`play` runs it from beginning to end: `stage` starts the two processes, `plan` and `load` are the clients, `mishaps`
breaks pools, `books` reads what was spent and what was billed, `summary` says what does not agree, `show` draws it.
`docs/demo.md` has how to read what it prints.
"""
