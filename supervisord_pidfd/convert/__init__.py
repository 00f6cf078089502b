"""`supervisord-pidfd convert`: what other supervisors read becomes a file of ours."""
