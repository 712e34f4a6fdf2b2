"""One trace in segments between checkpoints, each replayed by somebody else. See `run`."""
