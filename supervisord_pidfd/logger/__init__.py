"""The logger: every write that may block, in a process of its own."""
