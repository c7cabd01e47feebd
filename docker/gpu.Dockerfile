# Twinscale on NVIDIA GPUs, whose driver is the host's; CUDA comes with the packages. From the checkout:
#
#   docker build -f docker/gpu.Dockerfile -t twinscale-gpu .                            # the JAX backend
#   docker build -f docker/gpu.Dockerfile -t twinscale-keras --build-arg EXTRAS=cuda .  # the Keras backend
#   docker run --gpus all -v "$PWD/runs:/work/runs" twinscale-gpu train decoder-stdlib --backend jax --run runs/jax
#
# Each framework pins CUDA libraries of its own, so that both in one image are pip's to allow: EXTRAS=cuda,jax-cuda.
FROM python:3.12-slim-bookworm

ARG EXTRAS=jax-cuda

COPY . /opt/twinscale
RUN pip install --no-cache-dir "/opt/twinscale[${EXTRAS}]" && useradd --uid 1000 --create-home twinscale \
    && install -d -o twinscale /work /work/runs && cp -r /opt/twinscale/recipes /work/recipes

USER 1000
WORKDIR /work
ENTRYPOINT ["twinscale"]
CMD ["doctor"]
