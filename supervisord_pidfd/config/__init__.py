"""TOML to specs: read, checked and resolved in a short-lived child of the core."""
