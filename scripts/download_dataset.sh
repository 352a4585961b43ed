#!/bin/sh
# Download a data set of the papers: scripts/download_dataset.sh NAME [root=datasets]
exec gantrain data download "$@"
