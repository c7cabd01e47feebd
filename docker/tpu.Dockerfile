# Twinscale on a Cloud TPU VM or a GKE node of TPUs; the TPU's compiler, libtpu, comes with the packages. From the
# checkout:
#
#   docker build -f docker/tpu.Dockerfile -t twinscale-tpu .                             # the JAX backend
#   docker build -f docker/tpu.Dockerfile -t twinscale-keras --build-arg EXTRAS=tpu .    # the Keras backend
#   docker run --privileged --net=host -v "$PWD/runs:/work/runs" twinscale-tpu train decoder-stdlib --backend jax \
#     --run runs/jax
#
# One process at a time may hold a TPU, and the two backends want different libtpus: an image each. `twinscale launch
# gke --image` takes one of these: the recipes lie at /work/recipes, where its command looks for them. It stays root,
# which is who may open the TPU's devices.
FROM python:3.12-slim-bookworm

ARG EXTRAS=jax-tpu

COPY . /opt/twinscale
RUN pip install --no-cache-dir "/opt/twinscale[${EXTRAS}]" && install -d /work/runs \
    && cp -r /opt/twinscale/recipes /work/recipes

WORKDIR /work
ENTRYPOINT ["twinscale"]
CMD ["doctor"]
