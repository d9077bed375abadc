"""The names that training writes and analysis reads: ledger files, row columns, cell states.

This is the whole contract between the packages; it imports nothing and holds no logic.

Every JSON file of a study ends in a field "checksum": the first 32 hex digits of the SHA-256 of all bytes
before the comma that precedes it. RESULT_FILE lists size and checksum of the cell's other files.

A cell's and an artifact's files carry the name of the attempt that wrote them (ATTEMPT_FILE); the record that
makes them count names it under ATTEMPT. Where it names none, they stand under their own names. Of an
unfinished cell those of the newest attempt that has rows count, else those of the newest: attempts sort by
their names.
"""

SCHEMA_VERSION = 2

# Files of a study directory.
STUDY_FILE = "study.json"  # name, configuration, fingerprint, provenance
VALIDATION_FILE = "validation.json"  # both validation sets: id, level, type, supervised tokens
PLAN_FILE = "plan.json"  # every planned label and, once known, the key of its cell
ARTIFACTS_DIRECTORY = "phase_a"  # Phase A artifacts, one directory a content key
CELLS_DIRECTORY = "cells"  # one directory a cell key
COSTS_FILE = "columns.json"  # what was computed for strategies to choose by, and how long that took
LEASES_DIRECTORY = "leases"  # which driver works on the study, one file a fencing token
RATES_FILE = "tune.json"  # a learning-rate search's outcome; where it is, cells were stopped by their outcome

# Files of one cell's directory. RESULT_FILE is written last: the cell is finished once it is there.
CELL_FILE = "cell.json"  # what the cell is: labels at creation, hyperparameters, order hash
SELECTION_FILE = "selection.json"  # realised selection: ids, levels, types, lengths of replayed examples
ROWS_FILE = "rows.json"  # one row per evaluation point, ROW_COLUMNS each
LOSSES_FILE = "losses.safetensors"  # per-example validation losses at every evaluation point
ANSWERS_FILE = (
    "answers.json"  # generated answers at the points that have some, with their scores, item by item
)
RESULT_FILE = "result.json"  # final state of a finished cell: DONE or DIVERGED; its other files, by name
# of a result and of Phase A's manifest: digest of the code, versions and device of who computed it
WORKER = "worker"
CLAIM_FILE = "claim.json"  # which attempt may write here; gone once the cell is finished
FAILURE_FILE = "failure.json"  # last error of a cell that ran out of retries
STOPPED_FILE = "stopped.json"  # at which step a learning-rate search stopped the cell
ADAPTER_DIRECTORY = "adapter"  # final adapter in PEFT format
# In a Phase A artifact's directory: what was computed for strategies to choose by, one directory a column.
COLUMNS_DIRECTORY = "columns"
COLUMN_FILE = "column.json"  # written last: the column's name, its seconds, and on what it was computed
VALUES_FILE = "values.safetensors"
CONTENT_FILES = (
    CELL_FILE,
    SELECTION_FILE,
    ROWS_FILE,
    LOSSES_FILE,
    ANSWERS_FILE,
)  # these and the adapter are an attempt's
ATTEMPT = "attempt"
ATTEMPT_FORM = "[0-9]{6}-[0-9a-f]{8}"
ATTEMPT_FILE = (
    "{attempt}-{file}"  # 000001-0f3a9c2e-rows.json, 000001-0f3a9c2e-adapter/adapter_model.safetensors
)
CHECKPOINT_FORM = r"checkpoint-[0-9]{8}\.safetensors"
KEPT_CHECKPOINTS = 2  # the newest ones of an unfinished run, so that a damaged one is not the last

# What identifies a cell inside its study. Further axes of the search follow these.
STRATEGY = "strategy"
MIX = "mix"
SEED = "seed"
LABEL_COLUMNS = (STRATEGY, MIX, SEED)
DEFAULT_BASELINE = "random"  # what strategies are compared with, where a study declares no other
AA = "random_aa"  # random once more, with another selection stream: what no difference looks like
A_ONLY = "a_only"  # task A alone for as many steps: the control that no run without replay is the limit of
NO_REPLAY = "none"  # the strategy label of the mix-0 control, one cell per seed

# One evaluation point. Losses in nats; tokens are supervised tokens.
STEP = "step"
EPOCH = "epoch"
TASK_A_LOSS = "task_a_loss"  # sum of nll / sum of supervised tokens over A's validation set
TASK_B_LOSS = "task_b_loss"
TASK_A_LOSS_PER_EXAMPLE = "task_a_loss_per_example"  # mean over examples of their mean nll
TASK_B_LOSS_PER_EXAMPLE = "task_b_loss_per_example"
TRAIN_LOSS = "train_loss"  # over the optimiser batches since the previous point; None at step 0
LEARNING_RATE = "lr_now"  # the rate the next step would be taken with ("lr" is the hyperparameter)
TASK_A_EXAMPLES = "task_a_examples_seen"  # replayed examples seen so far
TASK_B_EXAMPLES = "task_b_examples_seen"
TASK_A_TOKENS = "task_a_tokens_seen"  # supervised tokens of replayed examples seen so far
TASK_B_TOKENS = "task_b_tokens_seen"
TOKENS_PER_SECOND = "tokens_per_second"  # all tokens trained on since the previous point, per second
SECONDS = "seconds"  # wall time of this cell so far, pauses between runs excluded

MEASURED_COLUMNS = (
    STEP,
    EPOCH,
    TASK_A_LOSS,
    TASK_B_LOSS,
    TASK_A_LOSS_PER_EXAMPLE,
    TASK_B_LOSS_PER_EXAMPLE,
    TRAIN_LOSS,
    LEARNING_RATE,
    TASK_A_EXAMPLES,
    TASK_B_EXAMPLES,
    TASK_A_TOKENS,
    TASK_B_TOKENS,
)
TIMING_COLUMNS = (TOKENS_PER_SECOND, SECONDS)  # the only columns that may differ between equal runs
ROW_COLUMNS = MEASURED_COLUMNS + TIMING_COLUMNS

# What a row has beside these where answers were generated: the mean of each score of each task, in [0, 1].
EXACT_MATCH, F1 = "exact_match", "f1"
SCORES = (EXACT_MATCH, F1)
TASKS = ("task_a", "task_b")
TASK_A_EXACT_MATCH, TASK_A_F1, TASK_B_EXACT_MATCH, TASK_B_F1 = SCORE_COLUMNS = tuple(
    f"{task}_{score}" for task in TASKS for score in SCORES
)

# And of each watched corpus the loss, and the base model's in the row of step 0.
WATCHED_LOSS = "watched_{name}_loss"
WATCHED_BASE_LOSS = "watched_{name}_base_loss"
WATCHED = "watched_"  # how these begin

# The states of a cell.
DONE = "done"  # trained to its last step
DIVERGED = "diverged"  # a loss became NaN, infinite or exploded: an outcome, kept in every count
FAILED = "failed"  # ran out of retries
PARTIAL = "partial"  # has rows or a checkpoint but no result yet
MISSING = "missing"  # planned, nothing on disk
CELL_STATES = (DONE, DIVERGED, FAILED, PARTIAL, MISSING)
FINISHED = (DONE, DIVERGED)  # the states of a cell that has a result
STOPPED = "stopped"  # early, for its outcome: in a learning-rate search alone, which is no study to analyse
FINAL_STATES = (*FINISHED, STOPPED)  # a cell that no run takes up again
