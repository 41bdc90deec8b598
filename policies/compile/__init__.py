"""What policy files say, checked and compiled part by part."""
