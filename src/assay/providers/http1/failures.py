"""What can go wrong with a call over HTTP/1.1. The words for it are the transport's.

Beside these, a dial raises what the system raises: socket.gaierror, ssl.SSLError and other OSErrors.
"""

from __future__ import annotations


class Http1Error(Exception):
    """The root."""


class InvalidUrl(Http1Error):
    """Not a URL that can be called."""


class Unsendable(Http1Error):
    """A method or header that cannot be sent; the message is a sentence that shows no value."""


class ConnectTimeout(Http1Error):
    """TCP and TLS took too long."""


class Expired(Http1Error):
    """The call's own time is over."""


class Lost(Http1Error):
    """The connection ended before the reply did."""


class InvalidHttp(Http1Error):
    """What came is not HTTP as this client takes it; the message says why."""
