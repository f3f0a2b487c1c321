"""The model card, which tells users of an exported model all that they need: JSON and README."""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

from diffad_jax.config.fields import value_of
from diffad_jax.data.layouts import LEAST_HELD_OUT
from diffad_jax.evaluation import metrics_file
from diffad_jax.export.contract import Format
from diffad_jax.export.graph import Model
from diffad_jax.inference.calibration import Calibration
from diffad_jax.methods.registry import get_method
from diffad_jax.runtime import files
from diffad_jax.training import checkpoint
from diffad_jax.training.fingerprint import PHOTOS
from diffad_jax.types import height_width

_RESIZE = {
    "bilinear": "from the four nearest pixels, centres at halves (cv2.INTER_LINEAR)",
    "antialias": "by a weighed mean of the pixels below each new one (Pillow's BILINEAR)",
}


def make(model: Model, format_name: str, written: Format, weights_hash: str,
         calibration: Calibration) -> dict[str, Any]:  # fmt: skip
    """The card as JSON.

    Args:
      model: what is exported.
      format_name: of ``registry.FORMATS``.
      written: that format.
      weights_hash: of the weights.
      calibration: its threshold and its colours.
    """
    config = model.config
    height, width = height_width(config.image_size)
    method = get_method(config)
    bounds = " in [0, 1]" if method.map_range(config) == (0.0, 1.0) else ""
    inputs = {"image": f"[b, {height}, {width}, 3], any b"}
    if written.takes_seed:
        inputs["seed"] = "[], of what the method draws, which is the same for every photo"
    return {
        "format": format_name,
        "category": model.category,
        "method": config.method,
        "runtime": list(written.runtime),
        "inputs": inputs,
        "outputs": {
            "score": f"[b] float32{bounds}: larger is more anomalous",
            "anomaly_map": f"[b, {height}, {width}] float32{bounds}: of each pixel",
        },
        "seed": model.seed,
        "preprocessing": {
            "size": [height, width],
            "resize": config.data.resize,
            "bit_depth": config.data.bit_depth,  # of photos with more than 8 bits; 0: not known
            "photo_mib": config.data.photo_mib,  # most that a photo may take
            "resize_in_words": f"{_RESIZE[config.data.resize]}, rounded to uint8",
            "range": [0, 255],
            "dtype": "uint8",
            "channels": "RGB",
        },
        "score": {
            "settings": {name: value_of(config, name) for name in method.settings},
            "describe": method.describe(config)["score"],
        },
        "threshold": _threshold(calibration),
        "pixel_threshold": _pixel_threshold(calibration),
        "colours": dict(zip(("low", "high"), calibration.map_range, strict=True)),
        "data": {
            "normal_photos": _photos(model) or "not known: imported weights",
            "licence": config.data.licence or "not stated",
        },
        "metrics": _metrics(model, weights_hash),
        "weights": weights_hash,
        "config": json.loads(config.to_json_best_effort()),
        "versions": metrics_file.versions() | _versions(written.runtime),
    }


def _threshold(calibration: Calibration) -> dict[str, Any] | None:
    if calibration.threshold is None:
        return None
    return {
        "value": calibration.threshold,
        "describe": "a photo that scores above it is anomalous; about "
        f"{calibration.false_alarm_rate:g} of new good photos do, by "
        f"{calibration.describe_photos()}; {calibration.false_alarms.describe()}",
        "false_alarm_rate": calibration.false_alarm_rate,
        "num_held_out_normal": calibration.num_held_out_normal,
        "num_accepted": calibration.num_accepted,
    }


def _pixel_threshold(calibration: Calibration) -> dict[str, Any] | None:
    if calibration.pixel_threshold is None:
        return None
    return {
        "value": calibration.pixel_threshold,
        "describe": "pixels of the map above it are outlined; about "
        f"{calibration.false_alarm_rate:g} of new good photos have one",
    }


def _photos(model: Model) -> str:
    """Names the photos that the last stage was trained on; empty for imported weights."""
    last = get_method(model.config).stages(model.config)[-1]
    checkpoints = checkpoint.Checkpoints(model.workdir / model.category / last.name)
    try:
        return checkpoints.fingerprint(checkpoints.newest_sound_step())[PHOTOS]
    finally:
        checkpoints.close()


def _metrics(model: Model, weights_hash: str) -> dict[str, Any] | None:
    """The category's metrics of the last evaluation in the work directory; None of other weights.

    Training that was stopped before its evaluation leaves those of the weights before.
    """
    categories = files.read_json(model.workdir / "metrics.json").get("categories", {})
    found = categories.get(model.category)
    return found if found and found.get("weights") == weights_hash else None


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    """The versions of the installed ones of these packages; tensorflow_cpu is TensorFlow."""
    found = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    return {k: v for k, v in found.items() if k.removesuffix("_cpu") in packages}


_HOW_TO_RUN = """    python run.py PHOTO_OR_FOLDER ...

`run.py` prints a score and a verdict for each photo, and is meant to be read. `--output=FOLDER`
writes them to tables instead, with overlays and with the regions above the pixel threshold. Pillow
reads image files; pixels in `.npy` files need none.
"""


def readme(card: dict[str, Any], text: str, runs: bool) -> str:
    """The folder's README: text for all formats, around one format's ``text``."""
    limit, rules = card["threshold"], card["preprocessing"]
    size = "{1} × {0}".format(*rules["size"])
    outlined = card["pixel_threshold"]
    pixels = f"{outlined['value']:.6g}: {outlined['describe']}" if outlined else "none was chosen"
    none = f"none, since that takes {LEAST_HELD_OUT} held-out normal photos: no verdicts"
    verdict = f"{limit['value']:.6g}: {limit['describe']}" if limit else none
    seed = f"{card['seed']}{' by default' if 'seed' in card['inputs'] else ''}"
    precision = _in_8_bits(card["quantization"])
    metrics = card["metrics"] or {}
    shown = [f"{k} {metrics[k]:.4f}" for k in ("image_auroc", "pixel_auroc", "pixel_ap")
             if metrics.get(k) is not None]  # fmt: skip
    return f"""# Anomaly detector for {card["category"]} ({card["format"]})

{text}
    pip install {" ".join(card["runtime"])}
{_HOW_TO_RUN if runs else ""}
## What goes in and comes out

| | |
|---|---|
| photo | {rules["channels"]}, {size}; resized {rules["resize_in_words"]} |
| score | {card["score"]["describe"]} |
| threshold | {verdict} |
| pixel threshold | {pixels} |
{precision}| seed | of what the method draws, {seed}; the same seed gives the same score |
| normal photos | {card["data"]["normal_photos"]}; licence: {card["data"]["licence"]} |
| metrics on its test photos | {", ".join(shown) or "not evaluated"} |
| written with | {", ".join(f"{k} {v}" for k, v in card["versions"].items())} |

`model.json` holds all of it, with the whole config. `sha256sum -c SHA256SUMS` says whether a file
has changed; that finds damage, not forgery. Nothing here is a pickle.
"""


def _in_8_bits(found: dict[str, Any] | None) -> str:
    """A row of the README; none where the graph is as precise as the detector."""
    if found is None:
        return ""
    verdicts = "{changed} of {photos}".format(**found["verdicts"])
    text = f"convolutions in {found['dtype']}; {verdicts} verdicts changed, see quantization.json"
    return f"| precision | {text} |\n"


def write(folder: Path, card: dict[str, Any], text: str, runs: bool) -> None:
    """Writes ``model.json`` and ``README.md``; for a graph that ``runs``, this says how."""
    content = json.dumps(card, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    (folder / "model.json").write_text(content, encoding="utf-8")
    (folder / "README.md").write_text(readme(card, text, runs), encoding="utf-8")
