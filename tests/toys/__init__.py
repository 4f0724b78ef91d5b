"""Toy storages, each with its backend: the shapes of storages that partwise has to serve."""
