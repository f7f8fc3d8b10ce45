# syntax=docker/dockerfile:1
# One build, two small images that share all but their programs:
#   docker build --target server  -t pot-server  .
#   docker build --target trainer -t pot-trainer .
ARG DEBIAN=debian:bookworm-slim

FROM ${DEBIAN} AS build
WORKDIR /src
COPY deploy/install-deps deploy/
RUN deploy/install-deps build
COPY CMakeLists.txt CMakePresets.json ./
COPY cmake cmake
COPY proto proto
COPY engine engine
COPY server server
COPY trainer trainer
COPY client client
# What was compiled before is kept between builds.
RUN --mount=type=cache,target=/root/.cache/ccache \
    cmake --preset release -DPOT_BUILD_TESTS=OFF \
      -DCMAKE_INSTALL_PREFIX=/opt/pot \
 && cmake --build --preset release \
 && cmake --install build/release --strip

FROM ${DEBIAN} AS runtime
COPY deploy/install-deps /usr/local/lib/pot/
# The user's number is fixed, so that a cluster can tell that it is not root.
RUN /usr/local/lib/pot/install-deps runtime \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt \
      /var/log/dpkg.log \
 && useradd --uid 10001 --no-create-home --home-dir /var/lib/pot \
      --shell /usr/sbin/nologin pot \
 && install -d -o pot -g pot /var/lib/pot
COPY LICENSE /usr/local/share/pot/
USER 10001:10001
WORKDIR /var/lib/pot

FROM runtime AS server
LABEL org.opencontainers.image.title="pot-server" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/pot/bin/pot-server /opt/pot/bin/pot-client \
     /usr/local/bin/
COPY deploy/seed-models /usr/local/bin/
# What a new volume at this path begins with.
COPY --chown=10001:10001 deploy/models /var/lib/pot/models
# Variables, which flags of `docker run` win over. Without TLS the server opens
# an address that others reach only if told POT_SERVER_ALLOW_INSECURE=true.
ENV POT_SERVER_REPOSITORY=/var/lib/pot/models \
    POT_SERVER_LISTEN=0.0.0.0:8500 \
    POT_SERVER_METRICS_LISTEN=0.0.0.0:8501
VOLUME /var/lib/pot/models
EXPOSE 8500 8501
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
  CMD ["pot-client", "--timeout", "2s", "health"]
ENTRYPOINT ["pot-server"]

FROM runtime AS trainer
LABEL org.opencontainers.image.title="pot-trainer" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/pot/bin/pot-trainer /usr/local/bin/
USER root
RUN install -d -o pot -g pot /var/lib/pot/work
USER 10001:10001
VOLUME /var/lib/pot/work
ENTRYPOINT ["pot-trainer"]
CMD ["worker", "--help"]
