"""Twenty kills while Ray scores photos in a bucket: the table is that of a run without kills."""

import random
import time

from tests.slow.s3_server import Server
from tests.slow.test_ray import assert_as_predicted, scored, start_ray, workers

__all__ = ["scored"]  # a fixture
KILLS = 10 * ["worker"] + 5 * ["driver"] + 5 * ["server"]


class Run:
    """The script, until it has scored what it can; killed and started again on the way."""

    def __init__(self, folder, server, output):
        self._folder, self._server, self.output = folder, server, output
        self._last = 0  # files of rows at the last kill
        self.start()

    def start(self):
        places = (self._folder / "work", self.output, "s3://photos")
        self.process = start_ray(*places, rows_per_file=25, environment=self._server.environment)

    def wait_for_progress(self):
        """More rows than at the last kill."""
        while (found := len([*self.output.glob("*.parquet")])) <= self._last:
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.02)
        self._last = found

    def kill(self, what: str, rng: random.Random):
        if what == "worker":
            while not (there := workers(self.process.pid)):
                assert self.process.poll() is None, self.process.communicate()[1]
                time.sleep(0.02)
            rng.choice(there).kill()
        elif what == "driver":
            self.process.kill()
            self.process.communicate()
            self.start()
        else:
            self._server.kill()
            self._server.start()

    def end(self):
        """Until it has ended; then it is called again, for what could not be read."""
        for again in (False, True):
            if again:
                self.start()
            _, err = self.process.communicate(timeout=1500)
            assert self.process.returncode == 3, err


def test_the_table_is_that_of_a_prediction_without_kills(scored, tmp_path):
    folder, rows = scored
    server, rng, begun = Server(folder / "in"), random.Random(0), time.monotonic()
    run = Run(folder, server, tmp_path / "out")
    for what in rng.sample(KILLS, len(KILLS)):
        run.wait_for_progress()
        run.kill(what, rng)
        print(f"{time.monotonic() - begun:.0f} s: {what} killed")
    run.end()
    server.kill()
    here, there = str(folder / "in"), "s3://photos"
    wanted = {
        name.replace(here, there): {k: str(v).replace(here, there) if k == "error" and v else v
                                    for k, v in row.items()}
        for name, row in rows.items()
    }  # fmt: skip
    assert_as_predicted(tmp_path / "out", wanted)
    print(f"{len(KILLS)} kills, {len(rows)} rows, {time.monotonic() - begun:.0f} s")
