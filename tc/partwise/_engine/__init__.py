"""
The engine: one upload, from the claim on its checkpoint to the release.

Private to partwise.
"""
