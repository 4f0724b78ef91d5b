"""
HTTP/1.1 for backends of storage services, and what is common to S3 and OSS.

The first group depends on no service:

- `client`: `HTTPClient` sends requests to one host over pooled connections, directly or through a proxy.
- `connecting`: TCP connections to a name with several addresses; `cutting`: a request ended by another thread.
- `connections`: one connection: TCP, the tunnel through a proxy, TLS, timeouts.
- `http1`: builds the head of a request, reads a response with a limit on every length.
- `tls_pump`: `TLSSocket`, TLS with few system calls; `lazy_tls_context`, which verifies certificates.
- `timeouts`: I/O timeouts in the kernel, where it supports them, and a minimum send rate.
- `proxies`: `Proxy`, and the proxy that the environment names.
- `headers`: which header values arrive unchanged.
- `redaction`: masks secrets in what a server sends back.
- `addresses`: which hosts are IP addresses, which are this machine.

The second group is for services that are built like S3, with access keys, signatures and XML documents:

- `signed_client`: `SignedClient` signs and sends requests, and translates failures; a service has a subclass.
- `signatures`: the encoding of a request, derived keys; `request_template`: the heads of the parts of one upload.
- `credentials`: access keys, their providers, and the cache of those in use; `clock`: corrected by the service.
- `option_headers`: the headers that carry the options of an object, as one table per service.
- `responses`, `xml`, `error_documents`: what is read from responses, with limits and without secrets.

A backend signs requests, calls `HTTPClient.head` and `HTTPClient.start`, and interprets the `Response`. Failures of the
connection are raised as errors of `partwise.errors`, which say whether a retry can help.
"""
