"""What one torch call does, read from its function and arguments: one table of functions per module."""
