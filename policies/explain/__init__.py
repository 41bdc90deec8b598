"""Saying why: a decision in sentences, as JSON, as a table."""
