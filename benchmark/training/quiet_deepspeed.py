"""The only importer of DeepSpeed: quietly, and without what a trial never uses.

Its autotuner would import MLflow (half a second and 100 MB a rank), and its shared-memory operator would compile for
half a minute and leave files in /dev/shm.
"""

from __future__ import annotations

import logging
import os
import sys

import torch

__all__ = ["deepspeed"]

os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
logging.getLogger("torch.distributed.elastic.multiprocessing.redirects").setLevel(logging.ERROR)
_mlflow_is_hidden = "mlflow" not in sys.modules
if _mlflow_is_hidden:
    sys.modules["mlflow"] = None  # type: ignore[assignment] # what `import mlflow` takes for missing
try:
    import deepspeed
finally:
    if _mlflow_is_hidden:
        del sys.modules["mlflow"]
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
