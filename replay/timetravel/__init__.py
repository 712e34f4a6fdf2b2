"""Time travel: any state of a trace, from checkpoints that are kept beside it. See `timeline`."""
