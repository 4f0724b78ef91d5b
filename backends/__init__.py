"""Backends that ship with partwise: the in-memory fake, a local directory, Alibaba Cloud OSS."""
