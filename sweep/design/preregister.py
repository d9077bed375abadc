"""Writing a study's preregistration; what it holds is analysis's, as is the comparison with the report."""

from datetime import UTC, datetime
from pathlib import Path

from sweep.config.errors import ConfigurationError
from sweep.design.interim import Interim


def register(path: Path, interim: Interim, *, finished: int) -> None:
    """Write what the study will ask and how it will be judged to a new file.

    Raises ConfigurationError where the file is there already or cannot be written, and where there is no
    contrast to register.
    """
    from analysis.findings.registered import registered
    from analysis.reading.declaration import read_settings
    from analysis.reading.preregistration import write_document

    if not interim.judgements:
        raise ConfigurationError("--preregister: the study has no contrast to register")
    study = interim.study
    record = registered(study, interim.judgements, settings=read_settings(study.description)) | {
        "study": study.name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished_cells": finished,
    }
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(write_document(record))
    except FileExistsError:
        raise ConfigurationError(f"--preregister: {path} is there already, and is not replaced") from None
    except OSError as error:
        raise ConfigurationError(f"--preregister: {path} cannot be written ({error.strerror})") from error
