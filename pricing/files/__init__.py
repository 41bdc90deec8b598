"""YAML files that people edit: read with line numbers, checked against a model, wrong with file:line."""
