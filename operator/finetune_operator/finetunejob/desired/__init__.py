"""Pure builders: a Target in, plain manifests for server-side apply out. `stages` and `plan` decide which, and when.

A manifest has no nulls, no status and a deterministic order, so that applying it twice writes nothing the second time.
"""
