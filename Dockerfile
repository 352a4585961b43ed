# gantrain for the CPU, or with --build-arg VARIANT=cuda for NVIDIA GPUs; docs/how/docker.md has the commands.
FROM python:3.12-slim-bookworm

# torch first, from the index of its builds without CUDA or from PyPI, whose builds contain CUDA.
ARG VARIANT=cpu
RUN case "$VARIANT" in \
        cpu) index=https://download.pytorch.org/whl/cpu ;; \
        cuda) index=https://pypi.org/simple ;; \
        *) echo "VARIANT=$VARIANT: give cpu or cuda" >&2; exit 1 ;; \
    esac \
    && pip install --no-cache-dir --index-url "$index" "torch>=2.6" "torchvision>=0.21"

WORKDIR /src
COPY LICENSE README.md pyproject.toml setup.cfg setup.py ./
COPY configs configs
COPY gantrain gantrain
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[export,heif,prepare,tensorboard,video]"

# Runs, data and caches are in the folder that is mounted here, whoever the user is.
WORKDIR /work
ENV HOME=/work
USER 1000:1000
ENTRYPOINT ["gantrain"]
CMD ["--help"]
