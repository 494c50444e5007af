"""Files that are written whole or not at all."""

import os
from pathlib import Path


def write_file(path: str | Path, data: bytes) -> None:
    """Write a file beside and rename it, so that there is never half of one. Missing folders are made.

    Raises:
        OSError: It cannot be written; what was there before is there still. `filename` is `path`.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(data)
            with open(beside, "rb+") as file:
                os.fsync(file.fileno())  # or a power cut leaves an empty file under the name
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
