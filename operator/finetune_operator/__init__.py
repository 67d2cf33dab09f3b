"""The operator: takes every FineTuneJob from its manifest to a served model.

ARCHITECTURE.md has the map. The core (`api`, `pods`, `kinds`, `serving`, `finetunejob`, `engine`) is pure; `shell`
acts.
"""
