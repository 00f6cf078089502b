"""A Linux service manager whose one epoll loop holds a pidfd for every service."""

__version__ = "0.1.0"
