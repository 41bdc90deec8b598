"""The demo: simulated pools, the endpoint and recorded traffic, each in a process of its own, and whether it adds up.

`stage` starts the two processes, `plan` and `load` are the clients, `mishaps` breaks pools, `results` reads what was
spent, `checks` says what does not agree, `show` draws it. `docs/demo.md` has how to read what it prints.
"""
