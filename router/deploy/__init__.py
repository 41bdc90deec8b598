"""What runs the router elsewhere than from a shell: a container file, a systemd unit, and what goes to Modal."""
