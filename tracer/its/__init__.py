"""The ITS as the architecture writes it: registers, commands, error codes, LPI tables. No state."""
