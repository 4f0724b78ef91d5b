"""The protocol of Alibaba Cloud OSS: requests, operations, signatures, XML documents and errors."""
