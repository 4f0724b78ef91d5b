"""The backends of partwise: the in-memory fake, a local directory, Alibaba OSS."""
