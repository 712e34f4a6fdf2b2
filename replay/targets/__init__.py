"""What a trace can be replayed on."""
