"""Photos that wait, and are scored in batches."""

import threading

import numpy as np

from diffad_jax.serve.batcher import Batcher


def test_a_photo_that_nobody_waits_for_any_more_costs_no_other_its_result():
    begun, go_on, photo = threading.Event(), threading.Event(), np.zeros((2, 2, 3), np.uint8)

    def predict(images, size):
        begun.set()
        assert go_on.wait(30)
        return range(len(images))

    batcher = Batcher(predict, 4, threading.Lock())
    first = batcher.submit(photo)
    assert begun.wait(30)
    given_up, kept = batcher.submit(photo), batcher.submit(photo)
    assert given_up.cancel()
    go_on.set()
    assert (first.result(30), kept.result(30)) == (0, 0)
    batcher.close()
