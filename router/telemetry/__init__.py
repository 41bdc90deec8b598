"""What happened, told to logs, metrics, webhooks and whoever watches."""
