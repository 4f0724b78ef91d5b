"""Resumable multipart uploads."""
