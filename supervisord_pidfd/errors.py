"""What callers of this package may catch, by who must act."""


class SupervisordError(Exception):
    """Be the base of every error this package raises on purpose."""


class ConfigError(SupervisordError):
    """Tell the operator that the configuration cannot be used; the text says where and why."""


class StartupError(SupervisordError):
    """Tell the operator that the daemon cannot start on this host (exit code 7)."""


class UsageError(SupervisordError):
    """Tell the user that the command line is wrong (exit code 2)."""


class ImpossibleEventError(SupervisordError):
    """Report a bug of the shell: an event that cannot happen in this phase."""
