"""How the benchmark asks its peer, and what it makes of the seconds; anomalib is not needed."""

import pytest

from benchmarks import peers


def test_medians_leave_out_the_call_that_compiles():
    asked = []

    def side(name, seconds):
        def run(what):
            asked.append((name, what))
            return next(seconds)

        return run

    ours, theirs = iter([90.0, 1.0, 7.0, 2.0]), iter([0.0, 4.0, 4.0, 5.0])
    sides = {"ours": side("ours", ours), "anomalib": side("anomalib", theirs)}
    found = peers._in_turns(sides, "fit", rounds=3)
    assert found == {"ours_seconds": 2.0, "anomalib_seconds": 4.0, "ratio": 0.5}
    assert asked == [("ours", "fit"), ("anomalib", "fit")] * 4


def test_a_question_is_a_line_and_so_is_its_answer(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nwhile read line; do echo "[1.5, $line]"; done\n')
    python.chmod(0o755)
    peer = peers._Peer(str(python), tmp_path)
    assert peer("make", "padim") == [1.5, ["make", "padim"]]
    assert peer("fit") == [1.5, ["fit"]]
    peer.end()


def test_a_peer_that_ends_early_is_named(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    peer = peers._Peer(str(python), tmp_path)
    with pytest.raises(SystemExit, match="has ended, see above: is anomalib installed"):
        peer("versions")
