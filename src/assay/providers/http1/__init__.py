"""HTTP/1.1 as a client speaks it, on asyncio's protocols and httptools. Whom it serves: providers.transport.

    request.py     a call's URL and headers, checked, as the bytes of a request's head
    incoming.py    one reply as it arrives: head, body, and how it ends
    connection.py  one connection: writes a request, feeds the reply, sees both ends hang up
    dial.py        a new connection: addresses, TCP, TLS
    pool.py        connections kept for reuse, how many there may be, and who is next

What goes wrong is told by the exceptions of failures.py, which the transport puts into words.
"""
