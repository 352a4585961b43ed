"""The options of pytorch-CycleGAN-and-pix2pix's train.py and test.py, of 2017 to 2025, and what they are here."""

from __future__ import annotations

from typing import Final

# Options that take no value.
SWITCHES: Final = {
    *("no_dropout", "serial_batches", "no_flip", "verbose", "use_wandb", "no_html", "save_by_iter", "continue_train"),
    *("eval", "no_lsgan", "align_data", "no_antialias", "no_antialias_up"),
}

# Options whose value is a whole number that is computed with.
WHOLE: Final = {
    *("batch_size", "batchSize", "n_epochs", "niter", "n_epochs_decay", "niter_decay", "lr_decay_iters", "load_iter"),
    *("display_freq", "print_freq", "save_latest_freq"),
}

# Names of earlier versions, and what they became; an option that became a value of another one has that value.
OLD_NAMES: Final = {
    "batchSize": "batch_size",
    "loadSize": "load_size",
    "fineSize": "crop_size",
    "which_model_netG": "netG",
    "which_model_netD": "netD",
    "which_direction": "direction",
    "nThreads": "num_threads",
    "resize_or_crop": "preprocess",
    "niter": "n_epochs",
    "niter_decay": "n_epochs_decay",
    "which_epoch": "epoch",
    "how_many": "num_test",
    "identity": "lambda_identity",
    "display_single_pane_ncols": "display_ncols",
    "no_lsgan": "gan_mode=vanilla",
    "align_data": "dataset_mode=aligned",
}

MODELS: Final = {
    **{"cycle_gan": "cyclegan", "pix2pix": "pix2pix", "colorization": "colorization"},
    **{"cut": "cut", "fastcut": "fastcut"},  # Of contrastive-unpaired-translation, the latter by its --CUT_mode.
}
DATA_MODES: Final = {"unaligned": "unaligned", "aligned": "aligned", "single": "single", "colorization": "single"}
LOSSES: Final = {"vanilla": "logistic", "lsgan": "least_squares", "wgangp": "wasserstein"}

# Options whose value is that of a key here, unchanged.
SAME: Final = {
    "name": "name",
    "checkpoints_dir": "checkpoints_dir",
    "ngf": "network.generator.width",
    "ndf": "network.discriminator.width",
    "batch_size": "data.batch_size",
    "num_threads": "data.num_workers",
    "max_dataset_size": "data.max_size",
    "load_size": "data.load_size",
    "crop_size": "data.crop_size",
    "lr": "optimizer.lr",
    "input_nc": "data.channels",
    "output_nc": "data.channels_b",
    "pool_size": "model.pool_size",
    "lambda_A": "model.lambda_a",
    "lambda_B": "model.lambda_b",
    "lambda_identity": "model.lambda_identity",
    "lambda_L1": "model.lambda_l1",
    "lambda_NCE": "model.lambda_nce",
    "nce_idt": "model.nce_idt",
    "netF_nc": "model.head_width",
    "nce_T": "model.nce_temperature",
    "num_patches": "model.num_patches",
    "flip_equivariance": "model.flip_equivariance",
    "normG": "network.generator.norm",
    "normD": "network.discriminator.norm",
    "wandb_project_name": "logger.wandb.project",
    "display_server": "logger.visdom.server",
    "display_port": "logger.visdom.port",
}

# Options that count images there and training steps here.
IN_IMAGES: Final = {
    "display_freq": "trainer.image_every",
    "print_freq": "trainer.log_every",
    "save_latest_freq": "trainer.save_every",
}

# Options that have no effect here, and why.
UNUSED: Final = {
    "verbose": "gantrain train --cfg job prints the configuration, and dry_run=true the networks",
    "display_ncols": "the page arranges its images itself",
    "display_winsize": "the page scales its images itself",
    "display_id": "logger=visdom turns visdom on, which is off by default",
    "display_env": "the visdom environment is named after the run",
    "update_html_freq": "the page is written with the images (trainer.image_every)",
    "no_html": "the page is always written",
    "aspect_ratio": "images are stored in their own size",
}

# Options of CUT and FastCUT alone: those that have a counterpart, and those of theirs and of SinCUT that have none.
CUT_KEYS: Final = (
    *("lambda_NCE", "nce_idt", "nce_layers", "netF_nc", "nce_T", "num_patches", "flip_equivariance", "normG", "normD"),
    *("no_antialias", "no_antialias_up", "CUT_mode"),
)
OF_CUT: Final = {
    *("lambda_GAN", "netF", "nce_includes_all_negatives_from_minibatch", "lambda_R1", "pretrained_name"),
    *("evaluation_freq", "random_scale_max", "stylegan2_G_num_downsampling", "easy_label"),
}

# All other options, each of which has a function in `gantrain.migration.words` or in `gantrain.migration.migrate`.
HANDLED: Final = {
    *("dataroot", "model", "dataset_mode", "direction", "gpu_ids", "netG", "netD", "n_layers_D", "norm", "init_type"),
    *("init_gain", "no_dropout", "serial_batches", "preprocess", "no_flip", "epoch", "load_iter", "suffix"),
    *("use_wandb", "save_epoch_freq", "save_by_iter", "continue_train", "epoch_count", "phase", "n_epochs"),
    *("n_epochs_decay", "beta1", "beta2", "gan_mode", "lr_policy", "lr_decay_iters", "results_dir", "eval"),
    *("num_test", "model_suffix", "lambda_regression"),
}

OPTIONS: Final = {*SAME, *IN_IMAGES, *UNUSED, *CUT_KEYS, *OF_CUT, *HANDLED, *OLD_NAMES}
