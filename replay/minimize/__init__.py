"""The smallest trace that still shows the same bug: passes, an oracle, and a journal."""
