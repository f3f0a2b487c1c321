"""DiffAD on MVTec AD with the networks and the recipe of the published code.

Command:   python -m diffad_jax.main --config=configs/mvtec.py:bottle --workdir=runs/mvtec
           (without ``:bottle`` all fifteen categories run one after another)
Data:      config.data.root must hold one folder a category: ROOT/bottle/{train,test,ground_truth}
Hardware:  an accelerator with 40 GB or more
Cost:      a category of 209 photos takes 595 + 656 + 839 PFLOP in the three stages, a photo at test
           2.4 TFLOP (python -m benchmarks.flops; stage 1 with LPIPS, and without the discriminator,
           which would start after this category's last step)
Hours:     not measured
Result:    not measured (the paper reports 98.7 image AUROC, 98.3/74.6 pixel AUROC/AP as a mean)
"""

import ml_collections

CATEGORIES = (
    "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut",
    "pill", "screw", "tile", "toothbrush", "transistor", "wood", "zipper",
)  # fmt: skip


def get_config(category: str | None = None) -> ml_collections.ConfigDict:
    """The published recipe; ``category`` (or a comma list of them) replaces all fifteen."""
    config = trained("diffad", category)
    config.autoencoder = autoencoder()
    config.diffusion = diffusion()
    config.reconstruction = reconstruction()
    config.segmentation = segmentation()
    config.normal_level = normal_level()
    return config.lock()


def trained(method: str, category: str | None) -> ml_collections.ConfigDict:
    """What all methods share that are trained step by step; unlocked."""
    config = shared(method, category)
    config.data = data()
    config.synthesis = synthesis()
    config.training = training()
    return config


def shared(method: str, category: str | None) -> ml_collections.ConfigDict:
    """What all methods share; unlocked."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.method = method  # a name in diffad_jax/methods.py
    config.categories = tuple(category.split(",")) if category else CATEGORIES
    config.image_size = 256  # photos are resized to a square of this many pixels
    config.evaluation = evaluation()
    config.mesh = mesh()
    return config


def photos() -> ml_collections.ConfigDict:
    """What every method must know of the photos."""
    c = ml_collections.ConfigDict()
    c.root = "data/mvtec"  # holds one folder a category
    c.layout = "mvtec"  # how a category's folder is organised: a name in data/layouts.py
    c.resize = "bilinear"  # bilinear (cv2's, no antialiasing, as published) | antialias
    # Memory for photos that are decoded at once; predict holds up to four times as much.
    c.photo_mib = 512
    c.on_bad_image = "fail"  # fail | skip unreadable training photos; test photos never skip
    c.validation_share = 0.1  # of the normal photos, held out of training: thresholds, progress
    c.licence = ""  # of the photos, for the cards of exported models; empty: not stated
    return c


def data() -> ml_collections.ConfigDict:
    """What methods that learn from synthetic anomalies need besides."""
    c = photos()
    c.textures = "procedural"  # what anomalies are made of: procedural | dtd | a folder of images
    c.recorded = ""  # train from this file (--mode=record) instead of synthesising
    c.cache_mib = 2048  # photos, and textures, stay decoded in memory up to this much
    return c


def synthesis() -> ml_collections.ConfigDict:
    """DRAEM's anomaly synthesis (ICCV 2021); its other numbers are constants in diffad_jax/data."""
    c = ml_collections.ConfigDict()
    c.normal_probability = 0.5  # this share of the examples stays without an anomaly
    c.rotation_probability = 0.3  # the normal photo is rotated by up to 90° either way
    c.max_light_change = 0.0  # photos get brighter or darker by up to this share, and along a slope
    c.max_beta = 0.8  # opacity: anomaly = (1 - beta) texture + beta photo, beta ~ U(0, max)
    c.perlin_endless = False  # the noise goes on beyond the photo; else corners have little of it
    c.own_texture_probability = 0.0  # the texture is the photo itself, moved and turned
    c.shade_probability = 0.0  # the texture is the photo itself, darker or brighter ...
    c.shade_range = (0.4, 0.9)  # ... by a factor drawn from here, or by one over it
    c.shade_threshold_range = (0.5, 0.5)  # noise above a draw from here is shaded,
    c.shade_softness = 0.0  # the shade sets in over up to this much noise across it
    c.grey_as_photo = False  # grey photos get grey textures
    return c


def autoencoder() -> ml_collections.ConfigDict:
    """Stage 1: the KL autoencoder E, D."""
    c = ml_collections.ConfigDict()
    c.channels = 128
    c.multipliers = (1, 2, 4, 4)  # channel multiple of each level; each but the last halves the map
    c.num_res_blocks = 2
    c.latent_channels = 4
    c.patch_size = 1  # p > 1: p x p patches in, pixel shuffle out (for CPUs)
    c.dropout = 0.5  # while it trains
    c.linear_skip = False  # adds linear maps from patches to the latent and back
    c.signed = False  # maps [0, 1] to [-1, 1] before E and back after D (imported kl-f8, diffusers)
    # The root mean square that every photo is brought to for all three networks; 0: as it is.
    c.exposure = 0.0
    c.input = "image"  # what it learns to copy: image (published) | augmented_image
    c.kl_weight = 1e-6
    c.perceptual = "lpips"  # lpips (published) | inception | none
    # That network's weights; without them lpips is off, and the log says so. For lpips a file by
    # convert/perceptual.py, or VGG,HEADS: torchvision's VGG16 and the published heads.
    c.perceptual_file = ""
    c.perceptual_weight = 1.0
    c.adversarial_weight = 0.5  # times the adaptive weight; 0: no discriminator
    c.adversarial_start = 50_001  # updates of the autoencoder before it
    c.discriminator_channels = 64
    c.discriminator_layers = 3
    c.epochs = 1000  # of as many examples as there are normal photos (assumed; not in the paper)
    c.steps = 0  # batches; 0: as many as make the epochs
    c.batch_size = 8
    c.accumulation = 2  # batches a step of the optimiser
    c.learning_rate = 4.5e-6 * 8 * 2
    c.warmup_steps = 0
    c.decay = "constant"  # constant | cosine (to a hundredth) | steps: x 0.2 at 80 %, again at 90 %
    c.betas = (0.5, 0.9)
    return c


def diffusion() -> ml_collections.ConfigDict:
    """Stage 2: the conditional latent denoiser eps_theta."""
    c = ml_collections.ConfigDict()
    c.channels = 256
    c.multipliers = (1, 2, 4)
    c.num_res_blocks = 2
    c.attention_downsampling = (1, 2, 4)  # attention where the latent is this much smaller
    c.head_channels = 32
    c.linear_skip = False  # adds a linear map of z_t and the condition to the output
    c.timesteps = 1000
    c.trained_timesteps = (0, 1000)  # t is drawn from the first to below the last
    c.beta_start = 0.0015
    c.beta_end = 0.02
    c.prediction = "epsilon"  # epsilon (published) | v (samples well in one to five steps)
    # independent (code) | shared (poster); ablations: none, hidden (it learns without a condition)
    c.condition_noise = "independent"
    c.condition_timesteps = (0, 1000)  # independent: s is drawn from the first to below the last
    c.anomaly_weight = 1.0  # the loss counts so many times where the example is anomalous
    c.latent_scale = 1.0  # z is multiplied by it; 0: 1 / (the latents' standard deviation)
    c.epochs = 4000
    c.steps = 0
    c.batch_size = 32
    c.accumulation = 1
    c.learning_rate = 2e-6 * 32
    c.warmup_steps = 0
    c.decay = "constant"
    c.weight_decay = 0.01
    c.ema_decay = 0.9999  # with warm-up min(ema_decay, (1 + n) / (10 + n))
    return c


def reconstruction() -> ml_collections.ConfigDict:
    """How a photo becomes its defect-free version, in segmentation training and at test."""
    c = ml_collections.ConfigDict()
    c.training_steps = 50  # DDIM steps inside a segmentation training step
    c.test_steps = 10  # DDIM steps at test
    c.spacing = "leading"  # leading (published) | trailing (starts at pure noise; for few steps)
    c.condition = "clean"  # clean (published code) | noisy (its README, for severe deformations)
    c.start_timestep = 500  # of the photo's own latent, where condition_noise is hidden
    c.condition_timesteps = (400, 500)  # a noisy one's timestep, from the first to below the last
    c.interpolation = (0.5,)  # lambda: z_inter = lambda c + (1 - lambda) z_r, a channel for each
    return c


def segmentation() -> ml_collections.ConfigDict:
    """Stage 3: the segmentation U-Net on reconstruction, interpolated channel and input."""
    c = ml_collections.ConfigDict()
    c.channels = 64
    c.multipliers = (1, 2, 4, 8, 8, 8)
    c.patch_size = 1  # as for the autoencoder
    c.input = "images"  # images (published) | differences (learns in fewer steps)
    c.focal_gamma = 2.0
    c.epochs = 700
    c.steps = 0
    c.batch_size = 32
    c.accumulation = 1
    c.learning_rate = 1e-3
    c.warmup_steps = 0
    c.decay = "steps"  # x 0.2 at 80 % and again at 90 %
    return c


def normal_level() -> ml_collections.ConfigDict:
    """Maps relative to how high they rise on normal photos; not in the paper, and off."""
    c = ml_collections.ConfigDict()
    c.floor = 0.0  # a pixel counts as a multiple of its level + floor; 0: as it is (published)
    c.power = 6.0  # the level is (the mean over normal photos of the map's power)^(1 / power)
    return c


def evaluation() -> ml_collections.ConfigDict:
    c = ml_collections.ConfigDict()
    c.batch_size = 16
    c.memory_mib = 1024  # for pixel metrics; of what does not fit they are given with exact bounds
    c.smoothing = 21  # the score is the map's maximum after a mean filter of this width ...
    c.smoothing_power = 1.0  # ... which averages the map to this power, and takes the root
    c.false_alarm_rate = 0.05  # the threshold lets this share of held-out normal photos pass it
    c.mask_rule = "full"  # a resized mask's pixel is anomalous at: full (== 1) | half | any (> 0)
    c.inception_weights = ""  # a safetensors file of Inception-v3, for FID; without it FID is off
    c.fid_dimension = 768  # features FID compares: 64 | 192 | 768 | 2048 (the published one)
    return c


def mesh() -> ml_collections.ConfigDict:
    """How devices share the work; their number is data x fsdp."""
    c = ml_collections.ConfigDict()
    c.data = -1  # batches are split into so many parts; -1: what is left
    c.fsdp = 1  # so are weights and optimiser state, and each part of a batch again
    return c


def computing() -> ml_collections.ConfigDict:
    """What every method must know, whether it takes gradient steps or not."""
    c = ml_collections.ConfigDict()
    c.compute_dtype = "float32"  # float32 | bfloat16; parameters stay float32
    return c


def training() -> ml_collections.ConfigDict:
    """Of the loop that all stages share."""
    c = computing()
    c.remat = False  # recompute blocks in the backward pass: less memory, about a third more work
    c.gradient_clip = 0.0  # largest global norm; 0: off
    c.log_every = 50  # steps
    c.checkpoint_every = 1000  # steps
    c.keep_checkpoints = 2  # the newest; the best by its validation stays as well
    c.use = "last"  # last | best: which checkpoint's weights a finished stage gives
    c.on_nonfinite = "stop"  # stop | skip a step whose loss or gradient is not finite
    c.validation_examples = 64  # synthetic anomalies on held-out normal photos
    return c
