"""The verbs, one file each: `configure(parser)` declares the options, `run(options)` does it."""
