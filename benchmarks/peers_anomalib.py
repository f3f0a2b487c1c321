"""anomalib's side of ``benchmarks.peers``, which starts it in an environment of its own.

It reads questions as lines of JSON and answers each with one. ``weights.pth`` in the folder that it
is given gets the random weights of the network.
"""

import json
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
import torchvision
from anomalib.models.image.draem.torch_model import DraemModel
from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel

_BATCH = 16
_BANK_SHARE = 0.01  # as ours


class Side:
    """A model of anomalib's, and the photos."""

    def __init__(self, folder: Path):
        self.folder = folder
        pixels = np.load(folder / "photos.npy").transpose(0, 3, 1, 2)
        self.photos = torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255

    def versions(self) -> dict[str, str]:
        return {name: metadata.version(name) for name in ("anomalib", "torch", "timm")}

    def make(self, method: str, network: str, *layers: str) -> str:
        """A new model with weights of seed 0."""
        torch.manual_seed(0)
        self.method = method
        if whole := {"draem": DraemModel, "efficientad": EfficientAdModel}.get(method):
            self.model = whole()
            return method
        state = getattr(torchvision.models, network)(weights=None).state_dict()
        torch.save(state, self.folder / "weights.pth")
        kind = {"padim": PadimModel, "patchcore": PatchcoreModel}[method]
        self.model = kind(backbone=network, layers=list(layers), pre_trained=False)
        known = self.model.feature_extractor.feature_extractor.load_state_dict(state, strict=False)
        assert not known.missing_keys, known.missing_keys
        return method

    def run(self, what: str) -> float:
        """fit or predict_N -> seconds of the processor."""
        started = time.process_time()
        with torch.no_grad():
            if what == "fit":
                self._fit()
            else:
                self.model.eval()
                self.model(self.photos[: int(what.rpartition("_")[2])])
        return time.process_time() - started

    def _fit(self) -> None:
        model = self.model.train()
        if self.method == "padim":
            model.memory_bank = []
        for i in range(0, len(self.photos), _BATCH):
            model(self.photos[i : i + _BATCH])
        if self.method == "padim":
            model.fit()
        else:
            model.subsample_embedding(_BANK_SHARE)


def main() -> None:
    torch.set_num_threads(1)
    side, answers = Side(Path(sys.argv[1])), sys.stdout
    sys.stdout = sys.stderr  # progress bars are no answers
    for line in sys.stdin:
        name, *rest = json.loads(line)
        known = {"versions": side.versions, "make": side.make}
        answer = known[name](*rest) if name in known else side.run(name)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
