"""`gantrain migrate`: commands of pytorch-CycleGAN-and-pix2pix, and the files of their options."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from gantrain.cli.compose import complete, compose_once
from gantrain.cli.main import main
from gantrain.config.early import check_values
from gantrain.errors import ConfigError
from gantrain.migration.command import Migration
from gantrain.migration.migrate import migrate
from gantrain.migration.options import OPTIONS, SWITCHES

ROOT = "--dataroot ./datasets/maps"
# Options of the parsers of train.py, with what the command here contains, or a word of the note about them.
TRAINING = {
    "--name maps": "name=maps",
    "--name maps --suffix {model}_{netG}_size{load_size} --netG unet_128 --load_size 100": (
        "name=maps_cycle_gan_unet_128_size100"
    ),
    "--gpu_ids -1": "trainer=cpu",
    "--gpu_ids 0": "",
    "--gpu_ids 0,1": "trainer.devices=2",
    "--checkpoints_dir ./elsewhere": "checkpoints_dir=./elsewhere",
    "--model cycle_gan": "model=cyclegan",
    "--model pix2pix": "model=pix2pix data=aligned",
    "--model colorization": "model=colorization data=single",
    "--input_nc 1": "data.channels=1 data.channels_b=3",
    "--output_nc 1": "data.channels=3 data.channels_b=1",
    "--output_nc 1 --direction BtoA": "data.channels=1 data.direction=b_to_a data.channels_b=3",
    "--ngf 32": "network.generator.width=32",
    "--ndf 32": "network.discriminator.width=32",
    "--netD basic": "",
    "--netD pixel": "network/discriminator=pixelgan",
    "--netD n_layers --n_layers_D 4": "network.discriminator.layers=4",
    "--netD n_layers": "network.discriminator.layers=3",
    "--n_layers_D 4": "! no effect there",
    "--netG resnet_6blocks": "network/generator=resnet_6blocks",
    "--netG unet_256": "network/generator=unet_256",
    "--norm batch": "network.norm=batch",
    "--norm sync_instance": "network.norm=instance ! of each process",
    "--init_type xavier": "network.generator.init=xavier network.discriminator.init=xavier",
    "--init_gain 0.1": "network.generator.init_gain=0.1 network.discriminator.init_gain=0.1",
    "--no_dropout": "network.dropout=0",
    "--dataset_mode aligned --model pix2pix": "data=aligned",
    "--dataset_mode aligned": "data=aligned",
    "--direction AtoB": "",
    "--direction BtoA": "data.direction=b_to_a",
    "--serial_batches": "data.serial=true",
    "--serial_batches --model pix2pix": "! random order",
    "--num_threads 2": "data.num_workers=2",
    "--batch_size 4": "data.batch_size=4",
    "--load_size 143": "data.load_size=143",
    "--crop_size 128": "data.crop_size=128",
    "--max_dataset_size 10": "data.max_size=10",
    "--max_dataset_size inf": "",
    "--preprocess scale_width_and_crop": "data.preprocess=scale_width_and_crop",
    "--no_flip": "data.flip=false",
    "--display_winsize 512": "! scales its images",
    "--epoch latest": "! newest checkpoint",
    "--load_iter 100": "! newest checkpoint",
    "--verbose": "! --cfg job",
    "--use_wandb": "logger=wandb",
    "--wandb_project_name mine": "logger=wandb logger.wandb.project=mine",
    "--display_freq 400 --batch_size 4": "trainer.image_every=100 ! counts images there",
    "--print_freq 100": "trainer.log_every=100",
    "--save_latest_freq 5000": "trainer.save_every=5000",
    "--display_ncols 4": "! arranges its images",
    "--display_id 0": "! off by default",
    "--display_server http://there --display_port 99": "logger=visdom logger.visdom.port=99",
    "--display_env main": "! named after the run",
    "--update_html_freq 1000": "! trainer.image_every",
    "--no_html": "! always written",
    "--save_epoch_freq 5": "! trainer.keep_every",
    "--save_by_iter": "trainer.keep=0",
    "--continue_train": "! init_from=checkpoints/NAME/latest_net_G_A.pth",
    "--epoch_count 5": "! knows its step",
    "--phase train": "",
    "--phase val": "! phase train",
    "--n_epochs 100": "trainer.epochs=200",
    "--n_epochs 50 --n_epochs_decay 150": "trainer.epochs=200 schedule.start=0.25",
    "--n_epochs_decay 0": "trainer.epochs=100 schedule=constant",
    "--beta1 0.9": "optimizer.betas=[0.9,0.999]",
    "--beta2 0.99": "optimizer.betas=[0.5,0.99]",
    "--lr 0.001": "optimizer.lr=0.001",
    "--gan_mode vanilla": "model.loss=logistic",
    "--gan_mode lsgan": "model.loss=least_squares",
    "--gan_mode wgangp --model pix2pix": "model.loss=wasserstein model.gradient_penalty=10 ! gradient penalty",
    "--pool_size 10": "model.pool_size=10",
    "--pool_size 10 --model pix2pix": "! model=pix2pix has none",
    "--pool_size 0 --model pix2pix": "",
    "--lr_policy linear": "! at every step here",
    "--lr_policy lambda": "! at every step here",
    "--lr_policy step --lr_decay_iters 80": "schedule=step schedule.milestones=[0.4,0.8]",
    "--lr_policy plateau": "schedule=plateau schedule.metric=g_a",
    "--lr_policy cosine": "schedule=cosine",
    "--lambda_A 5 --lambda_B 6": "model.lambda_a=5 model.lambda_b=6",
    "--lambda_identity 0": "model.lambda_identity=0",
    "--lambda_L1 10 --model pix2pix": "model.lambda_l1=10",
    "--lambda_L1 10": "! model=cyclegan has none",
    # Of contrastive-unpaired-translation.
    "--num_patches 64": "! CUT",
    "--CUT_mode CUT": "model=cut trainer.epochs=400",
    "--CUT_mode FastCUT": "model=fastcut trainer.epochs=200",
    "--model cut --n_epochs 30 --n_epochs_decay 10": "model=cut trainer.epochs=40 schedule.start=0.75",
    "--CUT_mode FastCUT --n_epochs 30 --n_epochs_decay 10": "model=fastcut trainer.epochs=40",
    "--model cut --lambda_NCE 5 --nce_idt False": "model.lambda_nce=5 model.nce_idt=false",
    "--model cut --nce_layers 0,4 --nce_T 0.1": "model.nce_layers=[0,4] model.nce_temperature=0.1",
    "--model cut --netF_nc 64": "model.head_width=64",
    "--model cut --num_patches 64 --flip_equivariance True": "model.num_patches=64 model.flip_equivariance=true",
    "--model cut --normG batch --normD none": "network.generator.norm=batch network.discriminator.norm=none",
    "--model cut --no_antialias --no_antialias_up": "network.antialias=false",
    "--model cut --no_antialias": "! for both directions",
    "--model cut --no_antialias_up": "! for both directions",
    "--model cut --lambda_GAN 2": "! CUT",
    # Earlier names.
    "--batchSize 2 --loadSize 100 --fineSize 64": "data.batch_size=2 data.load_size=100 data.crop_size=64",
    "--which_model_netG unet_128 --which_model_netD pixel": "network/generator=unet_128 network/discriminator=pixelgan",
    "--which_direction BtoA --nThreads 1": "data.direction=b_to_a data.num_workers=1",
    "--resize_or_crop crop --crop_size 64": "data.preprocess=crop",
    "--no_lsgan": "model.loss=logistic",
    "--niter 10 --niter_decay 30": "trainer.epochs=40 schedule.start=0.25",
    "--which_epoch latest": "! newest checkpoint",
    "--align_data": "data=aligned",
    "--identity 0.1": "model.lambda_identity=0.1",
    "--display_single_pane_ncols 3": "! arranges its images",
    "--batch_s=3": "data.batch_size=3",  # argparse accepts shortened names.
}
TESTING = {
    "--name maps --model cycle_gan": "run=checkpoints/maps",
    "--name maps --model test": "weights=checkpoints/maps/latest_net_G.pth data=single data.root=./datasets/maps",
    "--model test --name x --model_suffix _A --epoch 60": "weights=checkpoints/x/60_net_G_A.pth",
    "--model test --name x --load_iter 500": "weights=checkpoints/x/iter_500_net_G.pth",
    "--model pix2pix --name x --epoch 60": "run=checkpoints/x data=aligned ! step=NUMBER",
    "--model cycle_gan --direction BtoA": "! both ways",
    "--results_dir ./made": "out=./made",
    "--aspect_ratio 1.5": "! own size",
    "--phase val --num_test 10": "phase=val num=10",
    "--how_many 10": "num=10",
    "--model test": "! 50 by default",
    "--eval": "network_mode=eval",
    "--gpu_ids -1": "accelerator=cpu",
    "--crop_size 64": "data.load_size=64 data.crop_size=64",
    "--netG resnet_6blocks --norm batch": "! found in the weights",
}


def check(found: Migration, expected: str) -> None:
    words, _, note = expected.partition("!")
    assert set(words.split()) <= {*found.words}
    if note:
        assert note.strip() in " ".join(found.unsupported + found.differences)


@pytest.mark.parametrize("options", TRAINING)
def test_options_of_train_py_become_a_command_that_is_valid(options: str) -> None:
    found = migrate([f"python train.py {ROOT} {options}"])
    check(found, TRAINING[options])
    assert found.words[0] == "train"
    assert "data.root=./datasets/maps" in found.words
    check_values(complete(compose_once("train", [], found.words[1:])), also={})


@pytest.mark.parametrize("options", TESTING)
def test_options_of_test_py_become_a_command_that_is_valid(options: str) -> None:
    found = migrate(["python", "test.py", *ROOT.split(), *options.split()])
    check(found, TESTING[options])
    assert found.words[0] == "test"
    compose_once("test", [], found.words[1:])


def test_every_option_is_in_the_table() -> None:
    typed = {word.lstrip("-") for line in (*TRAINING, *TESTING) for word in line.split() if word.startswith("--")}
    of_cut_only = {option for option in OPTIONS if "CUT" in " ".join(migrated(option).unsupported)}
    assert OPTIONS - typed <= of_cut_only | {"dataroot", "lambda_regression"}


def migrated(option: str) -> Migration:
    value = "" if option in SWITCHES else " 1"
    try:
        return migrate([f"train.py {ROOT} --{option}{value}"])
    except ConfigError:  # The value is none of this option.
        return Migration()


def test_weights_that_were_trained_there_are_taken_if_they_exist() -> None:
    Path("checkpoints/mine").mkdir(parents=True)
    Path("checkpoints/mine/latest_net_G_A.pth").touch()
    found = migrate([f"python test.py {ROOT} --name mine --model cycle_gan"])
    assert found.words[1:4] == [
        "weights=checkpoints/mine/latest_net_G_A.pth",
        "data=unaligned",
        "data.root=./datasets/maps",
    ]


def test_the_number_of_processes_multiplies_the_batch_size() -> None:
    found = migrate([f"CUDA_VISIBLE_DEVICES=0,1 torchrun --nproc_per_node=2 train.py {ROOT} --batch_size 4"])
    assert {"trainer.devices=2", "data.batch_size=8"} <= {*found.words}
    assert "of each process" in " ".join(found.differences)


def test_gpus_are_selected_by_the_environment(capsys) -> None:
    assert main(["migrate", f"python train.py {ROOT} --gpu_ids 2,3 --name 'two words'"]) == 0
    first, *notes = capsys.readouterr().out.splitlines()
    assert first.startswith("CUDA_VISIBLE_DEVICES=2,3 gantrain train model=cyclegan")
    assert "name=two words" in shlex.split(first)
    assert all(note.startswith("#") for note in notes)


STORED = """\
----------------- Options ---------------
               batch_size: 8                             \t[default: 1]
                 dataroot: ./datasets/facades            \t[default: None]
                display_id: 1
                  isTrain: True                          \t[default: None]
                load_size: 286
                    model: pix2pix                       \t[default: cycle_gan]
                     name: facades
                  no_flip: True                          \t[default: False]
                     norm: batch
----------------- End -------------------
"""


def test_stored_options_are_those_that_are_no_defaults() -> None:
    Path("train_opt.txt").write_text(STORED)
    found = migrate(["train_opt.txt"])
    assert found.words == [
        *("train", "model=pix2pix", "data=aligned", "data.root=./datasets/facades"),
        *("data.flip=false", "data.batch_size=8", "name=facades"),
    ]
    assert found.unsupported == []


def test_unmarked_stored_options_of_2017_are_all_taken() -> None:
    Path("opt.txt").write_text(
        "------------ Options -------------\nbatchSize: 2\ndataroot: x\nno_lsgan: False\nmodel: pix2pix\n"
    )
    assert {"data.batch_size=2", "data.root=x"} <= {*migrate(["opt.txt"]).words}
    assert "model.loss=logistic" not in migrate(["opt.txt"]).words


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("python train.py --dataroot", "--dataroot: its value is missing"),
        ("python train.py --dataroot x --bath_size 1", "did you mean '--batch_size'"),
        ("python train.py --dataroot x --lambda 1", "it may be --lambda_"),
        ("python train.py --model pix2pix", "--dataroot is missing"),
        ("python train.py --dataroot x --model sincut", "--model sincut"),
        ("python train.py --dataroot x --model test", "test is for test.py"),
        ("python train.py --dataroot x --netD big", "basic, n_layers, pixel"),
        ("python train.py --dataroot x --gan_mode hinge", "vanilla, lsgan, wgangp"),
        ("python train.py --dataroot x --lr_policy exp", "linear, step, plateau, cosine"),
        ("python train.py --dataroot x --dataset_mode lmdb", "--dataset_mode lmdb"),
        ("python train.py --dataroot x --n_epochs many", "--n_epochs many: expected a number"),
        ("python train.py maps", "maps: expected an option"),
        ("python main.py --dataroot x", "expected a command with train.py or test.py"),
        ("python 'train.py", "quotation"),
        ("nowhere.txt", "nowhere.txt: No such file"),
    ],
)
def test_what_can_not_be_migrated_is_refused_in_one_line(typed: str, message: str, capsys) -> None:
    assert main(["migrate", typed]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
