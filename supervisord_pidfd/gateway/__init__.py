"""The gateway: every TCP listener, in a process of its own without privileges."""
