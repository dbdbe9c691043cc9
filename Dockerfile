# The ranking server as an image. Targets: cpu (the default) and gpu.
#
#   docker build --target cpu --tag ranker:cpu .
#
# BUILD_BASE needs pip, venv and a C compiler, BASE the same Python and nothing else. Behind a
# package mirror, pass pip's settings as a secret: --secret id=pip,src=$HOME/.config/pip/pip.conf
# On a machine without an image registry, deploy/image/base.sh makes both bases.
#
# The bases are named by digest, as a tag can come to name another image: both are of Python 3.11.16.
# What a tag names today says
#   docker buildx imagetools inspect python:3.11-slim-bookworm --format '{{.Manifest.Digest}}'
ARG BUILD_BASE=docker.io/library/python:3.11-bookworm@sha256:35d3a4a3d5e42e02ab916d44513a050689f12c0533d45598d229672503fe77ca
ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${BUILD_BASE} AS build
# Of pyproject.toml: serve, or any of gcp, otel and remote, which are that and more.
ARG EXTRAS=serve
WORKDIR /src
COPY deploy/image/requirements.txt ./
# Every file has to have one of the hashes that are listed; what is installed then comes from these alone.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m pip download --no-cache-dir --dest /wheels --require-hashes --requirement requirements.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY ranker ranker
COPY exporters exporters
# --without-pip: what runs needs no installer.
RUN python3 -m venv --without-pip /opt/ranker \
    && python3 -m pip --isolated --python /opt/ranker/bin/python install --no-cache-dir \
        --no-index --find-links /wheels ".[${EXTRAS}]" \
    && /opt/ranker/bin/python -I -c "import ranker.engine.simd._simd, ranker.serving.messages._messages"

FROM build AS build-gpu
COPY deploy/image/requirements-gpu.txt ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m pip download --no-cache-dir --dest /wheels --require-hashes --requirement requirements-gpu.txt
RUN python3 -m pip --isolated --python /opt/ranker/bin/python install --no-cache-dir \
        --no-index --find-links /wheels ".[gpu]" \
    && python3 -m pip --python /opt/ranker/bin/python uninstall --yes onnxruntime \
    && python3 -m pip --isolated --python /opt/ranker/bin/python install --no-cache-dir \
        --no-index --find-links /wheels "onnxruntime-gpu[cuda,cudnn]"

FROM ${BASE} AS run
# Nothing is written at run time, so that the root file system may be read-only.
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PATH=/opt/ranker/bin:$PATH
USER 65532:65532
EXPOSE 50051 8080 9090
ENTRYPOINT ["ranker"]
CMD ["serve", "/models/model.onnx"]

FROM run AS gpu
# Read by NVIDIA's container runtime, which brings the driver's own libraries.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-gpu /opt/ranker /opt/ranker

FROM run AS cpu
COPY --from=build /opt/ranker /opt/ranker
