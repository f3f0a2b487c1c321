"""Object storage in memory."""

from fsspec.implementations.memory import MemoryFileSystem


class Bucket(MemoryFileSystem):
    """As gcsfs, but in memory."""

    protocol = ("gcs", "gs")
    store: dict = {}
    pseudo_dirs = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("gs://").removeprefix("gcs://"))
