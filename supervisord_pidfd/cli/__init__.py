"""`pidfdctl`: the control client. It asks the daemon, and prints what it answers."""
