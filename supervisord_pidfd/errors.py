"""What callers of this package may catch, by who must act."""


class SupervisordError(Exception):
    """Be the base of every error this package raises on purpose."""


class ConfigError(SupervisordError):
    """Tell the operator that the configuration cannot be used; the text says where and why."""


class OtherVersionError(ConfigError):
    """Tell the operator that another version of this program is installed than the running one."""


class StartupError(SupervisordError):
    """Tell the operator that the daemon cannot start on this host (exit code 7)."""


class UsageError(SupervisordError):
    """Tell the user that the command line is wrong (exit code 2)."""


class ImpossibleEventError(SupervisordError):
    """Report a bug of the shell: an event that cannot happen in this phase."""


class ControlError(SupervisordError):
    """Be the base of what can go wrong between a client and the control socket."""


class UnreachableError(ControlError):
    """Tell the client that nobody answers at the control socket."""

    def __init__(self, path: str, error: int) -> None:
        super().__init__(path, error)
        self.path = path
        self.errno = error


class NoAnswerError(ControlError):
    """Tell the client that the daemon went away or is late, or that its answer makes no sense."""


class ReplyError(ControlError):
    """Hold an error that the daemon answered: its name and its parameters."""

    def __init__(self, name: str, parameters: dict[str, object]) -> None:
        super().__init__(name, parameters)
        self.name = name
        self.parameters = parameters
