"""
Profiles of Hypothesis, for ``--hypothesis-profile``: `quick` (the default), `ci`, `soak`, and `mutation`, for which it
is enough that something fails.
"""

from __future__ import annotations

import gc
import signal

from hypothesis import HealthCheck, Phase, settings

# A shared machine is slow now and then: no example has a deadline, and none is too slow to be generated.
_PATIENT = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)

settings.register_profile("quick", deadline=None, max_examples=100, suppress_health_check=_PATIENT)
settings.register_profile("ci", settings.get_profile("quick"), max_examples=1_000, print_blob=True)
settings.register_profile("soak", settings.get_profile("ci"), max_examples=20_000)
settings.register_profile("mutation", settings.get_profile("quick"), phases=[Phase.generate], database=None)
settings.load_profile("quick")

# Whoever starts the tests in the background of a script, or by nohup, starts them with these signals ignored, and every
# process that they start as well; then those that are about signals would wait for ever.
for _name, _default in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    if signal.getsignal(getattr(signal, _name, signal.SIGINT)) is signal.SIG_IGN:
        signal.signal(getattr(signal, _name), _default)


def pytest_collection_finish() -> None:
    """Spare each garbage collection a walk over the ten thousand tests, which live as long as the session does."""
    gc.collect()
    gc.freeze()
