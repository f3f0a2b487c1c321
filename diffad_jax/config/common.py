"""The fields that methods share. A method's own stand in its room."""

from collections.abc import Callable

from diffad_jax.config.fields import (
    COUNT,
    LENGTH,
    NATURAL,
    POSITIVE,
    PREDICTION,
    RUN,
    SHARE,
    Config,
    Field,
    Section,
    section,
)
from diffad_jax.errors import ConfigError

TOP = section(
    "",
    "Of all.",
    seed=Field(0, "of all random numbers", "[0, 2147483647]"),
    method=Field("", "a name in diffad_jax/methods/registry.py", use=RUN),
    categories=Field((), "folders below data.root: one detector each", use=RUN),
    shared=Field(False, "all categories share one set of networks, see docs/shared.md", use=RUN),
    shared_stages=Field(
        "all", "with shared: all | those up to this one, such as autoencoder", use=RUN
    ),
    shared_label=Field(
        "none",
        "with shared: none | known (the denoiser is told which product it rebuilds)",
        choices=("none", "known"),
        use=RUN,
    ),
    image_size=Field(
        256,
        "pixels that photos are resized to: a square's side, or (height, width)",
        COUNT,
        or_pair=True,
    ),
)
LABEL = TOP.only("shared_label").locking("shared_label")  # of a stage that is told it
PHOTOS = section(
    "data",
    "The photos.",
    root=Field("data/mvtec", "holds a folder for each category", use=RUN, place=True),
    layout=Field("mvtec", "how a category's folder is organised, see data/layouts.py", use=RUN),
    resize=Field(
        "bilinear",
        "bilinear (cv2's, no antialiasing, as published) | antialias",
        choices=("bilinear", "antialias"),
    ),
    proportions=Field(
        "square",
        "square | photos: as many pixels as image_size's square, in the photos' own proportions",
        choices=("square", "photos"),
        use=RUN,
    ),
    bit_depth=Field(
        0,
        "bits that the camera fills in photos with more than 8; 0: found before training, and kept",
        choices=(0, 8, 10, 12, 14, 16),
        use=RUN,
    ),
    # 179 megapixels: 10,922 lines of a line-scan camera with 16,384 pixels.
    photo_mib=Field(
        512,
        "for photos decoded at once, and so for the largest one; predict may hold 9 times as much",
        COUNT,
        use=RUN,
    ),
    on_bad_image=Field(
        "fail",
        "fail | skip unreadable training photos; test photos never skip",
        choices=("fail", "skip"),
        use=RUN,
    ),
    validation_share=Field(
        0.1,
        "of the normal photos, held out for the threshold; at least 19, or a third of few photos",
        "[0, 1)",
    ),
    # The photos' description in the fingerprint says which recording it was.
    recorded=Field(
        "", "train from this file (--mode=record), not from photos", use=RUN, place=True
    ),
    licence=Field("", "of the photos, for the cards of exports; empty: not stated", use=RUN),
)
EVALUATION = section(
    "evaluation",
    "What comes after training.",
    batch_size=Field(16, "photos that the detector sees at a time", COUNT, use=PREDICTION),
    memory_mib=Field(
        1024, "for pixel metrics; beyond it they come with exact bounds", COUNT, use=PREDICTION
    ),
    false_alarm_rate=Field(
        0.05, "about this share of new good photos is above the threshold", SHARE, use=PREDICTION
    ),
    mask_rule=Field(
        "full",
        "a resized mask's pixel is anomalous at: full (== 1) | half | any (> 0)",
        choices=("full", "half", "any"),
        use=PREDICTION,
    ),
    inception_weights=Field(
        "", "a safetensors file of Inception-v3, for FID; empty: no FID", use=PREDICTION, place=True
    ),
    fid_dimension=Field(
        768,
        "features FID compares: 64 | 192 | 768 | 2048 (the published one)",
        choices=(64, 192, 768, 2048),
        use=PREDICTION,
    ),
)


def _check_mesh(config: Config) -> None:
    if config.mesh.data == 0:
        raise ConfigError("config.mesh.data = 0: must be 1 or more, or -1 for what is left")


MESH = section(
    "mesh",
    "How devices share the work; their number is data x fsdp.",
    _check_mesh,
    data=Field(-1, "parts of a batch; -1: the number of devices / fsdp", "[-1, inf)", use=RUN),
    fsdp=Field(
        1, "parts of weights and optimiser state, and of each part of a batch", COUNT, use=RUN
    ),
)
COMPUTING = section(
    "training",
    "The loop that all stages share.",
    compute_dtype=Field(
        "float32",
        "float32 | bfloat16 | auto: bfloat16 but on CPUs; parameters stay float32",
        choices=("float32", "bfloat16", "auto"),
    ),
)
ALWAYS = (TOP, PHOTOS, EVALUATION, MESH, COMPUTING)

# --- of methods that take gradient steps on synthetic anomalies ---

EXAMPLES = section(
    "data",
    PHOTOS.comment,
    textures=Field("procedural", "of anomalies: procedural | dtd | a folder", place=True),
    cache_mib=Field(
        2048, "photos, and textures, stay decoded in memory up to this", NATURAL, use=RUN
    ),
)


def _check_synthesis(config: Config) -> None:
    c = config.synthesis
    if c.own_texture_probability + c.shade_probability > 1.0:
        raise ConfigError(
            f"config.synthesis.own_texture_probability = {c.own_texture_probability} and "
            f"shade_probability = {c.shade_probability}: together at most 1"
        )
    # Where nothing was rotated to, the noise is 0: no shade may reach there.
    if c.shade_softness > 2.0 * c.shade_threshold_range[0]:
        raise ConfigError(
            f"config.synthesis.shade_softness = {c.shade_softness}: must lie in 0 … "
            f"{2.0 * c.shade_threshold_range[0]}, twice the least of shade_threshold_range"
        )


SYNTHESIS = section(
    "synthesis",
    "DRAEM's anomaly synthesis (ICCV 2021); its other numbers are constants in data/.",
    _check_synthesis,
    normal_probability=Field(0.5, "share of examples without an anomaly", SHARE),
    rotation_probability=Field(0.3, "share of photos rotated by up to 90° either way", SHARE),
    max_light_change=Field(
        0.0, "photos get brighter or darker by up to this share, and along a slope", "[0, 0.5]"
    ),
    max_beta=Field(
        0.8, "opacity: anomaly = (1 - beta) texture + beta photo, beta ~ U(0, max)", SHARE
    ),
    perlin_endless=Field(False, "noise goes on beyond the photo; else corners have little of it"),
    own_texture_probability=Field(0.0, "share of anomalies from the photo itself, moved", SHARE),
    shade_probability=Field(
        0.0, "share of anomalies that make the photo darker or brighter", SHARE
    ),
    shade_range=Field(
        (0.4, 0.9), "... by a factor drawn from here, or by one over it", "(0, 1]", pair=True
    ),
    shade_threshold_range=Field(
        (0.5, 0.5), "a shade lies where noise is above a draw from here", POSITIVE, pair=True
    ),
    shade_softness=Field(0.0, "most noise over which a shade sets in", NATURAL),
    grey_as_photo=Field(False, "grey photos get grey textures"),
)
LOOP = section(
    "training",
    COMPUTING.comment,
    remat=Field(
        False,
        "recompute blocks in the backward pass: less memory, about a third more work",
        use=RUN,
    ),
    gradient_clip=Field(0.0, "largest global norm; 0: off", NATURAL),
    log_every=Field(50, "steps", COUNT, use=RUN),
    checkpoint_every=Field(1000, "steps", COUNT, use=RUN),
    keep_checkpoints=Field(
        2, "newest ones that stay; the best by validation stays as well", COUNT, use=RUN
    ),
    use=Field(
        "last",
        "last | best: which checkpoint's weights a finished stage gives",
        choices=("last", "best"),
        use=RUN,
    ),
    on_nonfinite=Field(
        "stop",
        "stop | skip a step whose loss or gradient is not finite",
        choices=("stop", "skip"),
        use=RUN,
    ),
    validation_examples=Field(64, "synthetic anomalies on held-out normal photos", COUNT, use=RUN),
)
BY_STEPS = (EXAMPLES, SYNTHESIS, LOOP)


def trained(name: str, comment: str, check: Callable | None = None, /, **fields: Field) -> Section:
    """The section of a stage that takes gradient steps, its length checked."""

    def check_all(config: Config) -> None:
        c = config[name]
        if c.steps == 0 and c.epochs < 1:
            raise ConfigError(
                f"config.{name}.steps = 0: must be 1 or more, or 0 with "
                f"config.{name}.epochs = {c.epochs} at 1 or more"
            )
        if check:
            check(config)

    return section(name, comment, check_all, **fields)


def steps(
    *, epochs: int, batch_size: int, learning_rate: float, decay: str, accumulation: int = 1
) -> dict[str, Field]:
    """The fields of a stage's gradient steps."""
    return {
        "epochs": Field(
            epochs, "of as many examples as there are normal photos", NATURAL, use=LENGTH
        ),
        "steps": Field(0, "batches; 0: as many as make the epochs", NATURAL, use=LENGTH),
        "batch_size": Field(batch_size, "examples a batch", COUNT),
        "accumulation": Field(accumulation, "batches a step of the optimiser", COUNT),
        "learning_rate": Field(learning_rate, "of the optimiser, at its highest", POSITIVE),
        "warmup_steps": Field(0, "in which the rate rises from 0", NATURAL),
        "decay": Field(
            decay,
            "constant | cosine (to 1/100) | steps: x 0.2 at 80 % and 90 % | late: x 0.1 at 5/6",
            choices=("constant", "cosine", "steps", "late"),
        ),
    }


def levels(
    channels: int, multipliers: tuple[int, ...], prefix: str = "", what: str = ""
) -> dict[str, Field]:
    """The fields of a network of convolution blocks on several levels."""
    return {
        f"{prefix}channels": Field(channels, f"of the first level{what}", COUNT),
        f"{prefix}multipliers": Field(multipliers, f"of the channels, level by level{what}", COUNT),
    }


PATCH_SIZE = Field(1, "p > 1: p x p patches in, pixel shuffle out (for CPUs)", COUNT)
FOCAL_GAMMA = Field(2.0, "of the focal loss; 0: cross-entropy", NATURAL)
SMOOTHING = section(
    "evaluation",
    EVALUATION.comment,
    smoothing=Field(
        21,
        "the score is the map's maximum after a mean filter of this width ...",
        COUNT,
        odd=True,
        use=PREDICTION,
    ),
)
SMOOTHING_POWER = section(
    "evaluation",
    EVALUATION.comment,
    smoothing_power=Field(
        1.0, "... which averages the map to this power, and takes the root", COUNT, use=PREDICTION
    ),
)
