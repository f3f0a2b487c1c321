"""The drills whole, as commands; what they print is in the report of a test that fails."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def last_line(drill: str, *flags: str) -> dict:
    """The JSON object that ``python -m tests.slow.DRILL`` ends with."""
    command = [sys.executable, "-m", f"tests.slow.{drill}", *flags]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_restart_ends_in_the_same_state_or_with_a_clear_error():
    found = last_line("fault_drill", "--kills=50")
    assert found["bad"] == 0 and found["faults"] > 100


def test_no_reader_takes_more_than_four_times_what_its_limit_allows():
    found = last_line("reader_memory")
    assert not found["above"] and found["cases"] > 50


def test_mutants_give_the_readers_own_error_and_no_growth_of_memory():
    found = last_line("fuzz", "--seconds=3600")
    assert not found["bad"] and all(reader["refused"] for reader in found["readers"].values())


def test_more_devices_and_lost_processes_learn_the_same():
    found = last_line("devices", "--steps=30")
    assert found["within_tolerance"] and all(found["interrupted_equal_uninterrupted"])
