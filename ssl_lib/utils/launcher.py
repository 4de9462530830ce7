"""Number of processes that torchrun or srun started, from the environment."""

from __future__ import annotations

import os
import re

__all__ = ["processes_started"]


def processes_started() -> int:
    """Number of processes that torchrun or srun started for this job; 1 without either."""
    _export_slurm()
    return int(os.environ.get("WORLD_SIZE", "1"))


def _export_slurm() -> None:
    """Translates srun's environment variables into those of torch.distributed."""
    here = os.environ
    if "WORLD_SIZE" in here or int(here.get("SLURM_STEP_NUM_TASKS", "1")) == 1:
        return
    first_node = re.sub(r"\[(\d+).*", r"\1", here["SLURM_STEP_NODELIST"].split(",")[0])  # as in "node[03-05,08],other"
    tasks, nodes = int(here["SLURM_STEP_NUM_TASKS"]), int(here.get("SLURM_STEP_NUM_NODES", "1"))
    here.update(
        RANK=here["SLURM_PROCID"],
        LOCAL_RANK=here["SLURM_LOCALID"],
        WORLD_SIZE=here["SLURM_STEP_NUM_TASKS"],
        LOCAL_WORLD_SIZE=str(-(-tasks // nodes)),
        MASTER_ADDR=here.get("MASTER_ADDR", first_node),
        MASTER_PORT=here.get("MASTER_PORT", str(20_000 + int(here["SLURM_JOB_ID"]) % 20_000)),
    )
