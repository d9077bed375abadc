"""What is fuzzed, by name."""

from tests.fuzz import configurations, histories, studies, task_files
from tests.fuzz.running import Target

TARGETS = {
    "configuration_text": Target(configurations.TEXTS, configurations.check_text),
    "configuration_values": Target(configurations.VALUES, configurations.check_values),
    "configuration_overrides": Target(configurations.OVERRIDES, configurations.check_overrides),
    "analysis_ledger": Target(studies.STUDIES, studies.check_analysis),
    "sweep_ledger": Target(studies.STUDIES, studies.check_ledger),
    "sweep_commands": Target(studies.STUDIES, studies.check_commands),
    "histories": Target(histories.HISTORIES, histories.check),
    "task_files": Target(task_files.FILES, task_files.check_files),
    "task_rows": Target(task_files.ROWS, task_files.check_rows),
    "task_preparation": Target(task_files.PREPARATIONS, task_files.check_preparation),
}
