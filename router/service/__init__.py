"""A running endpoint put together: settings, what replicas share, and what runs beside the requests."""
