"""Unit tests need no database and no broker, and say the same on every run.

``HYPOTHESIS_PROFILE=thorough`` looks further, and elsewhere each time.
"""

import os

from hypothesis import HealthCheck, settings

_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

settings.register_profile(
    "unit", deadline=None, derandomize=True, max_examples=100, suppress_health_check=_SLOW_IS_FINE
)
settings.register_profile("thorough", deadline=None, max_examples=5000, suppress_health_check=_SLOW_IS_FINE)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "unit"))
