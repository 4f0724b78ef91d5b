"""Checkpoint stores that ship with partwise: files, sqlite, memory."""
