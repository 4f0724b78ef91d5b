"""
HTTP/1.1 for backends of storage services.

Nothing here depends on a service: no signatures, no error documents.

- `client`: `HTTPClient` sends requests to one host over pooled connections, directly or through a proxy.
- `connecting`: TCP connections to a name with several addresses; `cutting`: a request ended by another thread.
- `connections`: one connection: TCP, the tunnel through a proxy, TLS, timeouts.
- `http1`: builds the head of a request, reads a response with a limit on every length.
- `tls_pump`: `TLSSocket`, TLS with few system calls; `tls_context`, which verifies certificates.
- `timeouts`: I/O timeouts in the kernel, where it supports them, and a minimum send rate.
- `proxies`: `Proxy`, and the proxy that the environment names.
- `headers`: which header values arrive unchanged.
- `redaction`: masks secrets in what a server sends back.
- `addresses`: which hosts are IP addresses, which are this machine.

A backend signs requests, calls `HTTPClient.head` and `HTTPClient.start`, and interprets the `Response`. Failures of the
connection are raised as errors of `partwise.errors`, which say whether a retry can help.
"""
