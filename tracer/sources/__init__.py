"""Capture sources, one module each: they turn what a tool wrote into events."""
