"""What follows from a trace: the ITS as it behaves, replay, verdicts and the command line.

Imports nothing, so that the pytest plugin can live here at no cost.
"""
