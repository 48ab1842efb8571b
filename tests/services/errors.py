"""What can go wrong while a service is looked for or started."""


class ServiceError(Exception):
    """A service did not do what was asked of it."""


class ServiceMissing(ServiceError):
    """A service was not found and could not be brought; the message names the ways to give it."""


class ServiceFailed(ServiceError):
    """A server of ours did not start, or did not answer in time; the message ends with its last words."""
