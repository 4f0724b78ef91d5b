"""Alibaba Cloud OSS: its operations, signatures, XML documents and errors."""
