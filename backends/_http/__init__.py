"""HTTP/1.1 for backends: exchanges, TLS, timeouts, proxies. Knows nothing of any storage service."""
