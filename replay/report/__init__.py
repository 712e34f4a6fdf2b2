"""A page that shows a trace: one file, opened from disk, that needs nothing else. See `build`."""
