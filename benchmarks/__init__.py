"""Measure the daemon beside two floors and its peers; see README.md."""
