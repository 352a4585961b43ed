#!/usr/bin/env bash
# Eight small runs on the digits that come with gantrain: two models, two learning rates, two seeds; a minute on two cores.
# The same command again runs only what is missing. To run several at once: sweep_example.sh launcher=joblib
set -euo pipefail

gantrain train --multirun model=dcgan,lsgan optimizer.lr=1e-4,5e-4 'seed=range(2)' \
  data.load_size=16 data.batch_size=16 network.width=8 trainer=cpu \
  trainer.steps=60 trainer.log_every=5 trainer.image_every=20 "$@"
