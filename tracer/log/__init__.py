"""The trace file: its format, its reader and writer, and its text form."""
