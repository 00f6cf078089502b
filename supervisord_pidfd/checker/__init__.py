"""The checker: tcp, http and file probes and the calendar, in a process without privileges."""
