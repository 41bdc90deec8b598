"""Predictors trained on the ledger. Nothing that serves requests imports this package: it loads scikit-learn."""
