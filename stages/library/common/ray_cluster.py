"""Ray, an optional requirement that runs work on many processes or machines."""

import os
from pathlib import Path
from typing import Any

from stages.library.common import store_location
from stages.library.common.console import UserError

PROJECT = Path(__file__).parents[3]


def start() -> Any:
    """Returns Ray's module, connected to the cluster that RAY_ADDRESS names, or to one on this machine."""
    try:
        import ray
        import ray.util
    except ImportError as error:
        raise UserError("Ray is missing. Run: pip install -r requirements-ray.txt") from error

    if not ray.is_initialized():
        passed_on = {"DECANT_CACHE", store_location.VARIABLE, "TF_CPP_MIN_LOG_LEVEL"} & set(os.environ)
        variables = {"PYTHONPATH": str(PROJECT), **{name: os.environ[name] for name in passed_on}}
        ray.init(
            runtime_env={"env_vars": variables}, log_to_driver=False, include_dashboard=False, logging_level="error"
        )
    return ray
