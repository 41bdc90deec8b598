"""What goes down to the client: streams and whole answers, and how a broken stream goes on."""
