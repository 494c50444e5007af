"""The dress rehearsal (`scripts/rehearse.py`).

`environment` makes what a user has installed, `tests.checkpoints.published` and `hub` what the model hub has, `steps`
says what is run, `documents` what has to be, and `runner` runs it. The steps run under the fresh environment's Python.
"""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.rehearsal.environment import ROOT, make_environment

EXTRAS = ("train", "deepspeed")


def rehearse(only: str, work: Path | None, jobs: int, here: bool, table: Path | None) -> int:
    """Run everything; returns the exit code: 0 where all went well."""
    if work is None:
        with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
            return rehearse(only, Path(folder), jobs, here, table)
    work = work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1) as pool:  # a core for pip's process, and another for this one
        made = None if here else pool.submit(make_environment, work / "environment", EXTRAS)
        from tests.checkpoints.hub import Hub
        from tests.checkpoints.published import published
        from tests.rehearsal.steps import write_inputs

        published(work / "hub")
    python, missing = made.result() if made else (Path(sys.executable), [])
    space = work / "space"
    space.mkdir(exist_ok=True)
    for name in ("configs", "training", "scripts", "tests"):
        if not (space / name).exists():
            (space / name).symlink_to(ROOT / name)
    write_inputs(space)
    with Hub(work / "hub") as hub:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "PYTHON"))}
        environment |= {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(work / "downloads"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "REHEARSAL_OPEN_CLIP": str(work / "open_clip"),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        } | ({"PYTHONPATH": str(ROOT)} if here else {})  # or another checkout may be what is installed
        arguments = {"only": only, "jobs": jobs, "missing": missing, "table": table and str(table.absolute())}
        code = f"from tests.rehearsal.report import main; raise SystemExit(main({json.dumps(json.dumps(arguments))}))"
        return subprocess.run([python, "-c", code], cwd=space, env=environment).returncode
