"""Mutation fuzzing of everything that reads what somebody else wrote.

    python -m tests.fuzz                      list the targets
    python -m tests.fuzz TARGET [ROUNDS [SEED]]
    python -m tests.fuzz --guided TARGET ...  grow the seeds by what reaches new lines

One module for each floor of `bridge` names its parsers; `harness` has the rules that hold for all.
"""
