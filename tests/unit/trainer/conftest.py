"""How hypothesis runs here."""

from hypothesis import HealthCheck, settings

# A busy machine is no fault of a row, and a run's examples are those of the run before.
settings.register_profile("unit", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")
