"""The operator: takes every FineTuneJob from its manifest to a served model.

ARCHITECTURE.md has the map. The core (api, desired, stages, observe, diagnose, conditions, plan) is pure; cluster,
reconcile and handlers act.
"""
