"""The dashboard at `/`: pages rendered here from what the public API answers to the viewer's own key.

`inside` asks the API within this process, `sessions` keeps who has signed in, `overview` and `spend` make of the
answers what the templates show, `words` writes numbers as people read them. `routes` has the routes,
`docs/dashboard.md` what each number is and which route it comes from.
"""
