"""On the path of an example: notes every address outside this machine that it wants, and refuses it."""

import os
import sys

LOOPBACK = {"127.0.0.1", "::1", "localhost", "", None, b"127.0.0.1", b"localhost"}


def watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a string is a path: no network
    else:
        return
    if host not in LOOPBACK:
        with open(os.environ["OUTSIDE"], "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(f"{host!s}\n")
        raise OSError(f"{host!s} is outside of this machine")


sys.addaudithook(watch)
